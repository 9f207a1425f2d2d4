"""Stage `distill`: from the captured look of a splat to materials and light."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import interpolate as resized

from relight.errors import BackendUnavailableError, MissingPartError
from relight.fit.gloss import likely_metal, spread_over_views
from relight.fit.losses import normal_consistency, photometric, smoothness
from relight.fit.parameters import Parameters
from relight.fit.sky import solve_shading
from relight.geometry.gaussians import Gaussians
from relight.geometry.mesh import Mesh
from relight.render import tracing
from relight.render.deferred import blend, displayed
from relight.render.protocol import RasterOptions
from relight.render.proxy import Proxy, fuse
from relight.render.relit import Shader
from relight.render.splats import create_rasterizer
from relight.render.transfer import bake
from relight.scene import Scene
from relight.shading.learnable import LearnableEnvironment
from relight.stages.base import Checkpoint, Job, Stage
from relight.views import Views

GEOMETRY = ("means", "quats_wxyz", "log_scales", "logit_opacity")
LOOK = ("sh",)
MESH = ("vertices", "faces", "normals", "colors")
MATERIALS = {"base_color": 0.99, "roughness": 0.99, "metallic": 0.99, "progress": 0.01}
"""Where they start: a white, rough metal that hardly counts (Ye, Hou and Zhou)."""


@dataclass(frozen=True, kw_only=True)
class Phase:
    """One phase of the distillation; a rate of 0 freezes."""

    iterations: int = 400
    """Steps of one photograph each.  0 leaves the phase out."""
    progress_weight: float = 0.0
    """Weight of the squared distance between progress and the object's mask (Ye et al.: 0.08)."""
    white_weight: float = 0.0
    """Weight of colour in the light (nvdiffrec's prior; Ye et al.: 0.003)."""
    geometry_rate: float = 0.2
    """Learning rate of shapes, relative to 3DGS's."""
    look_rate: float = 1.0
    """Learning rate of the captured look, relative to 3DGS's."""
    material_rate: float = 0.05
    """Learning rate of the logits of base colour and roughness."""
    metallic_rate: float = 0.05
    """Learning rate of the logit of metallic."""
    progress_rate: float = 0.05
    """Learning rate of the logit of progress."""
    light_rate: float = 0.02
    """Learning rate of the logarithm of the light."""
    direct_weight: float = 0.0
    """Weight of the loss of the shaded materials alone, without the captured look."""
    color_weight: float = 0.0
    """Weight of differences in base colour between neighbouring pixels: what light can explain, light shall explain."""
    metal_weight: float = 0.0
    """Weight of metallic x darkness: no metal reflects less than half of the light."""
    smooth_weight: float = 0.0
    """Weight of differences in roughness and metallic between neighbouring pixels of like colour (R3DG, IRGS)."""

    def __post_init__(self) -> None:
        wrong = [f"{name}: expected 0 or more (got {value})" for name, value in vars(self).items() if not value >= 0]
        if wrong:
            raise ValueError("\n".join(wrong))


@dataclass(frozen=True, kw_only=True)
class Specular(Phase):
    """Everything is metal: what mirrors a light is found first, being the less ambiguous part."""

    iterations: int = 200
    metallic_rate: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Diffuse(Phase):
    """Base colour, roughness and metallic of all, while shapes stay where light was worked out for them."""

    iterations: int = 400
    geometry_rate: float = 0.0
    light_rate: float = 0.01
    material_rate: float = 0.03
    progress_weight: float = 0.08
    white_weight: float = 0.003
    direct_weight: float = 1.0
    color_weight: float = 0.02
    smooth_weight: float = 0.05
    metal_weight: float = 0.05


@dataclass(frozen=True, kw_only=True)
class Joint(Diffuse):
    """The same in smaller steps."""

    light_rate: float = 0.004
    material_rate: float = 0.02
    metallic_rate: float = 0.02
    progress_rate: float = 0.02


@dataclass(frozen=True, kw_only=True)
class Distill(Stage):
    """Base colour, roughness, metallic and light of a splat.

    Ye, Hou and Zhou, Progressive Radiance Distillation, arXiv 2408.07595, 2024.

    A pixel is progress x shaded materials + (1 - progress) x captured look.  Highlights are explained first, as metal,
    which is the less ambiguous part; then the rest; then all of it together.  Light has no shadows here.
    """

    needs: ClassVar[tuple[str, ...]] = ("views", "gaussians")
    gives: ClassVar[tuple[str, ...]] = ("gaussians", "light", "mesh")

    specular: Specular = field(default_factory=Specular)
    """Everything is metal: mirror-like light only."""
    diffuse: Diffuse = field(default_factory=Diffuse)
    """Metallic starts anew at `metallic_start` and is learned."""
    joint: Joint = field(default_factory=Joint)
    """Everything, in smaller steps."""
    metallic_start: float = 0.1
    """Metallic at the start of `diffuse`, where photographs do not tell by how colour moves with the eye.  0 to 1."""
    base_color_start: float = 0.5
    """Base colour at the start of `diffuse`, linear, without `shadows`.  0 to 1."""
    roughness_start: float = 0.6
    """Highest roughness at the start of `diffuse`.  0 to 1."""
    light_size: int = 32
    """Rows of the learned map of light, which is twice as wide."""
    light_start: float = 1.0
    """Its radiance at the start, linear; 1 is the photographs' white."""
    dssim_weight: float = 0.2
    """Share of 1 - SSIM in the loss, the rest is L1 (3DGS).  0 to 1."""
    rays: int = 2
    """A pixel and step, along what surfaces mirror."""
    shadows: bool = True
    """Work out, before `diffuse`, what of the light each place sees, by rays against a mesh made from the splat."""
    normal_weight: float = 0.05
    """Weight of the angle between the Gaussians' normals and those of the depth they make (2DGS: 0.05)."""

    def __post_init__(self) -> None:
        self.check_ranges({
            "metallic_start": (0.001, 0.999), "roughness_start": (0.001, 0.999),
            "base_color_start": (0.001, 0.999),
            "light_size": (4, 512), "light_start": (1e-4, math.inf),
            "dssim_weight": (0, 1), "normal_weight": (0, math.inf), "rays": (1, 64),
        })  # fmt: skip

    def run(self, scene: Scene, job: Job) -> Scene:
        """Raises MissingPartError without views or Gaussians; BackendUnavailableError for shadows without rays."""
        if scene.views is None or len(scene.views.train) == 0:
            raise MissingPartError("distill: the scene has no training views")
        if scene.gaussians is None or len(scene.gaussians) == 0:
            raise MissingPartError("distill: the scene has no splat; put radiance before distill")
        reason = tracing.unavailable() if job.device.type == "cpu" else f"rays run on the CPU, not on {job.device}, yet"
        if self.shadows and reason:
            raise BackendUnavailableError(f"distill: no shadows: {reason}; or set distill.shadows=false")
        return _Distillation(self, scene, scene.views.train, scene.gaussians, job).run()


class _Distillation:
    """The state of one distillation."""

    def __init__(self, options: Distill, scene: Scene, views: Views, gaussians: Gaussians, job: Job):
        self.options, self.scene, self.views, self.job = options, scene, views, job
        self.start = gaussians.to(job.device)
        self.rasterizer = create_rasterizer(job.backend, job.device)
        self.raster = RasterOptions.for_extent(scene.frame.radius)
        self.generator = torch.Generator().manual_seed(job.seed)
        n = len(gaussians)
        tensors = {name: getattr(self.start, name) for name in (*GEOMETRY, *LOOK)}
        for name, value in MATERIALS.items():
            shape = (n, 3) if name == "base_color" else (n,)
            tensors[name] = torch.full(shape, math.log(value / (1 - value)), device=job.device)
        self.parameters = Parameters(tensors, dict.fromkeys(tensors, 0.0))
        self.light = LearnableEnvironment.constant(options.light_size, options.light_start).to(job.device)
        self.light_adam = torch.optim.Adam(self.light.parameters(), lr=0.0)
        self.phases: list[Phase] = [options.specular, options.diffuse, options.joint]
        self.order = torch.empty(0, dtype=torch.long)
        self.step, self.quality = 0, 0.0
        self.shader = Shader(self.rasterizer, self.raster)
        self.places = torch.empty(0, 3)
        if job.restored is not None:
            self._restore(job.restored)

    def run(self) -> Scene:
        total = sum(phase.iterations for phase in self.phases)
        first = 0
        for number, phase in enumerate(self.phases):
            last = first + phase.iterations
            if number == 1 and self.step == first and phase.iterations:
                self._free_metallic()
                if self.options.shadows:
                    self._make_shadows()
            if first <= self.step < last:
                self._set_rates(phase)
            while self.step < last:
                loss, error = self._one_step(phase)
                self.quality = error if self.quality == 0 else 0.98 * self.quality + 0.02 * error
                self.step += 1
                metrics = None
                if self.step % 50 == 0 or self.step == total:
                    metrics = {"loss": loss, "train_psnr": -10 * math.log10(max(self.quality, 1e-10))}
                    metrics["progress"] = float(torch.sigmoid(self.parameters["progress"].detach()).mean())
                self.job.report(self.step, total, metrics, scene=self._scene() if metrics else None)
                if self.step < total and self.job.checkpoint_due():
                    self.job.checkpoint(self._checkpoint())
            first = last
        return self._scene()

    def _make_shadows(self) -> None:
        """A mesh from the splat as it is now; then light and base colour as if all were diffuse."""
        cameras = [self.views.camera(i).to(self.job.device) for i in range(len(self.views))]
        proxy = Proxy(fuse(self.rasterizer, self._gaussians().detach(), cameras, options=self.raster))
        self.places, normals, look = proxy.closest(self.parameters["means"])
        self._bake(proxy, normals)
        assert self.shader.transfer is not None
        shading = solve_shading(look, self.shader.transfer)
        finer = resized(shading.radiance.permute(2, 0, 1)[None], self.light.log_radiance.shape[:2])[0].permute(1, 2, 0)
        with torch.no_grad():
            self.light.log_radiance.copy_(finer.clamp_min(1e-3 * float(finer.mean())).log())
            self.parameters["base_color"].copy_(torch.logit(shading.albedo.clamp(0.02, 0.95)))
            irradiance = self.shader.transfer.irradiance(self.light.light())
            spread, count = spread_over_views(self.rasterizer, self._gaussians().detach(), self.views, self.raster)
            metal = likely_metal(spread, count, irradiance, self.options.metallic_start)
            self.parameters["metallic"].copy_(torch.logit(metal.clamp(0.03, 0.97)))
        self.light_adam.state.clear()

    def _bake(self, proxy: Proxy, normals: Tensor) -> None:
        """From here on, light comes with shadows and by way of other surfaces, and normals are the proxy's."""
        self.start = replace(self.start, channels={**self.start.channels, "normal": normals})
        transfer = bake(proxy, self.places, normals, self.light.rotation, seed=self.job.seed)
        self.shader = Shader(self.rasterizer, self.raster, proxy, transfer)

    def _free_metallic(self) -> None:
        """From metals to mostly dielectrics, all of one grey, so that shading is explained by light first."""
        p, start = self.parameters, self.options.metallic_start
        with torch.no_grad():
            p["metallic"].fill_(math.log(start / (1 - start)))
            p["base_color"].fill_(math.log(self.options.base_color_start / (1 - self.options.base_color_start)))
            # What mirrors keeps its roughness; logits of the rest would take long to come back from 0.99.
            p["roughness"].clamp_(max=math.log(self.options.roughness_start / (1 - self.options.roughness_start)))
        for name in ("metallic", "base_color", "roughness"):
            p.forget(name)

    def _set_rates(self, phase: Phase) -> None:
        shapes = {
            "means": 1.6e-6 * self.scene.frame.radius,
            "quats_wxyz": 1e-3,
            "log_scales": 5e-3,
            "logit_opacity": 0.05,
        }
        rates = {name: rate * phase.geometry_rate for name, rate in shapes.items()}
        rates |= {"sh": 2.5e-4 * phase.look_rate, "metallic": phase.metallic_rate, "progress": phase.progress_rate}
        rates |= {"base_color": phase.material_rate, "roughness": phase.material_rate}
        for name, rate in rates.items():
            self.parameters.set_rate(name, rate)
        for group in self.light_adam.param_groups:
            group["lr"] = phase.light_rate

    def _one_step(self, phase: Phase) -> tuple[float, float]:
        o = self.options
        if len(self.order) == 0:
            self.order = torch.randperm(len(self.views), generator=self.generator)
        index, self.order = int(self.order[0]), self.order[1:]
        photo, camera = self.views.photo(index).to(self.job.device), self.views.camera(index).to(self.job.device)
        buffer, shaded = self.shader(self._gaussians(), camera, self.light.light(), rays=o.rays, seed=self.step)
        color, alpha = blend(buffer, shaded), buffer.splat.alpha
        expected, behind = photo.rgb, torch.zeros_like(photo.rgb)
        if photo.alpha is not None:
            background = torch.rand(3, generator=self.generator).to(self.job.device)
            behind = (1 - alpha)[..., None] * background
            expected = photo.rgb * photo.alpha[..., None] + background * (1 - photo.alpha[..., None])
        color = color + behind
        loss = photometric(color.permute(2, 0, 1), expected.permute(2, 0, 1), o.dssim_weight, photo.mask)
        if phase.direct_weight:
            shown = displayed(buffer, shaded) + behind
            direct = photometric(shown.permute(2, 0, 1), expected.permute(2, 0, 1), o.dssim_weight, photo.mask)
            loss = loss + phase.direct_weight * direct
        if phase.color_weight:
            flat = torch.zeros_like(photo.rgb)
            loss = loss + phase.color_weight * smoothness(buffer.spread(buffer.surface.base_color), flat, buffer.mask)
        if phase.progress_weight:
            wanted = torch.ones_like(alpha) if photo.alpha is None else photo.alpha
            found = buffer.spread(buffer.progress[:, None])[..., 0] * alpha
            loss = loss + phase.progress_weight * (wanted - found).square().mean()
        if phase.white_weight:
            loss = loss + phase.white_weight * self.light.whiteness_penalty()
        if phase.metal_weight:
            dark = (1 - 2 * buffer.surface.base_color.amax(-1)).clamp_min(0)
            loss = loss + phase.metal_weight * (buffer.surface.metallic * dark).mean()
        if phase.smooth_weight:
            pair = torch.stack([buffer.surface.roughness, buffer.surface.metallic], -1)
            loss = loss + phase.smooth_weight * smoothness(buffer.spread(pair), photo.rgb, buffer.mask)
        if o.normal_weight and phase.geometry_rate:
            loss = loss + o.normal_weight * normal_consistency(buffer.splat, camera)
        loss.backward()
        self.parameters.step()
        self.light_adam.step()
        self.light_adam.zero_grad()
        error = (color.detach() - expected).square()
        return float(loss.detach()), float(error.mean() if photo.mask is None else error[photo.mask].mean())

    def _gaussians(self) -> Gaussians:
        p = self.parameters
        values = {name: p[name] for name in (*GEOMETRY, *LOOK)}
        channels = {name: torch.sigmoid(p[name]) for name in MATERIALS}
        return replace(self.start, **values, channels={**self.start.channels, **channels})

    def _scene(self) -> Scene:
        with torch.no_grad():
            light = self.light.light()
        light = replace(light, radiance=light.radiance.detach().clone())
        mesh = self.scene.mesh if self.shader.proxy is None else self.shader.proxy.mesh
        return replace(self.scene, gaussians=self._gaussians().detach(), light=light, mesh=mesh)

    def _checkpoint(self) -> Checkpoint:
        tensors = {**self.parameters.state(), "order": self.order, "generator": self.generator.get_state()}
        tensors["light"] = self.light.log_radiance.detach()
        for key, value in self.light_adam.state.get(self.light.log_radiance, {}).items():
            tensors[f"light_adam.{key}"] = value
        if self.shader.proxy is not None:
            mesh = self.shader.proxy.mesh
            parts = {f"mesh.{name}": getattr(mesh, name) for name in MESH}
            tensors |= {"places": self.places, "normals": self.start.channels["normal"], **parts}
        return Checkpoint(self.step, tensors, {"quality": self.quality})

    def _restore(self, saved: Checkpoint) -> None:
        self.step, self.quality = saved.step, float(str(saved.values["quality"]))
        self.parameters.restore(saved.tensors)
        self.order, light = saved.tensors["order"], self.light.log_radiance
        self.generator.set_state(saved.tensors["generator"])
        with torch.no_grad():
            light.copy_(saved.tensors["light"])
        state = {k.split(".")[1]: v.clone() for k, v in saved.tensors.items() if k.startswith("light_adam.")}
        if state:
            self.light_adam.state[light] = state
        if "places" in saved.tensors:
            self.places = saved.tensors["places"]
            vertices, faces, normals, colors = (saved.tensors[f"mesh.{name}"] for name in MESH)
            self._bake(Proxy(Mesh(vertices, faces, normals=normals, colors=colors)), saved.tensors["normals"])
