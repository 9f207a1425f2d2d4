"""Stage `distill`: from the captured look of a splat to materials and light."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import ClassVar, Literal

import torch
from torch import Tensor

from relight.errors import BackendUnavailableError, MissingPartError, outside
from relight.fit.begin import ALL, Prior, begin
from relight.fit.graph import Surface, seen_surface
from relight.fit.judge import Trials, judge, repainted
from relight.fit.lighting import FittedLighting
from relight.fit.losses import noisy_error, normal_consistency, photometric, smoothness
from relight.fit.on_proxy import OnProxy
from relight.fit.parameters import Parameters
from relight.fit.places import Places
from relight.fit.shared import SharedMaterials, segments
from relight.geometry.gaussians import Gaussians
from relight.render import tracing
from relight.render.deferred import GBuffer, blend, displayed
from relight.render.protocol import RasterOptions
from relight.render.proxy import Proxy, fuse
from relight.render.relit import Shader
from relight.render.splats import create_rasterizer
from relight.scene import Scene
from relight.shading.environment import Environment
from relight.stages.base import Checkpoint, Job, Stage
from relight.views import Photo, Views

GEOMETRY = ("means", "quats_wxyz", "log_scales", "logit_opacity")
LOOK = ("sh",)
MATERIALS = {"base_color": 0.99, "roughness": 0.99, "metallic": 0.99, "progress": 0.01}
"""Where they start: a white, rough metal that hardly counts (Ye, Hou and Zhou)."""
KINDS = ("metallic", "roughness")
"""What is found for kinds of material together."""


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
    """Learning rate of the logit of base colour."""
    roughness_rate: float = 0.0
    """Learning rate of the logit of roughness, of what places of one colour share.  0 while split-sum shades: its error
    would be paid for with materials.  Without `shadows` nothing else tells, so it is `material_rate` then."""
    metallic_rate: float = 0.0
    """The same for metallic."""
    place_rate: float = 0.3
    """Learning rates of what each place adds to them, as a share of theirs."""
    place_weight: float = 0.01
    """Weight of the squares of what each place adds: like colours are like materials."""
    progress_rate: float = 0.05
    """Learning rate of the logit of progress."""
    light_rate: float = 0.02
    """Learning rate of the logarithm of the light."""
    direct_weight: float = 0.0
    """Weight of the loss of the shaded materials alone, without the captured look."""
    color_weight: float = 0.0
    """Weight of differences in base colour between neighbouring pixels: what light can explain, light shall explain."""
    smooth_weight: float = 0.0
    """Weight of differences in roughness and metallic between neighbouring pixels of like colour (R3DG, IRGS)."""
    judge: bool = False
    """Judge anew, before it begins and in the light found so far, which kinds of material are metal and how rough."""

    def __post_init__(self) -> None:
        if wrong := outside(self, dict.fromkeys(vars(self), (0, math.inf))):
            raise ValueError("\n".join(wrong))


@dataclass(frozen=True, kw_only=True)
class Specular(Phase):
    """Everything is metal: what mirrors a light is found first, being the less ambiguous part."""

    iterations: int = 200
    roughness_rate: float = 0.05
    place_rate: float = 1.0


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


@dataclass(frozen=True, kw_only=True)
class Joint(Diffuse):
    """The same in smaller steps."""

    judge: bool = True
    light_rate: float = 0.004
    material_rate: float = 0.02
    progress_rate: float = 0.02


@dataclass(frozen=True, kw_only=True)
class Refine(Joint):
    """Monte Carlo instead of split-sum, whose error a fit would pay for with roughness."""

    iterations: int = 300
    samples: int = 16
    """Of the light and of the BSDF, a pixel and estimate; each step takes two estimates."""
    roughness_rate: float = 0.02
    metallic_rate: float = 0.003
    light_size: int = 64
    """Rows of the learned map of light from here on."""
    light_rate: float = 0.01
    look_rate: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Distill(Stage):
    """Base colour, roughness, metallic and light of a splat.

    Ye, Hou and Zhou, Progressive Radiance Distillation, arXiv 2408.07595, 2024; with rays against a mesh, and Monte
    Carlo at the end.

    A pixel is progress x shaded materials + (1 - progress) x captured look.  Highlights are explained first, as metal,
    which is the less ambiguous part; then the rest; then all of it together.

    Light is learned, unless the capture gives it (`data.light`).  Where photographs name several lights, each has a map
    of its own, and where light follows the camera (`data.light_frame`) its map does; one captured look can't stand for
    photographs under different light, so it is left out then.
    """

    needs: ClassVar[tuple[str, ...]] = ("views", "gaussians")
    gives: ClassVar[tuple[str, ...]] = ("gaussians", "light")
    version: ClassVar[int] = 5
    by_renderer: ClassVar[Mapping[str, str]] = {"mesh": "materials"}

    renderer: Literal["splat", "mesh"] = "splat"
    """mesh: the stage `materials`, with its options: the same for textures of the mesh that the stage `mesh` made, or
    of a model."""
    specular: Specular = field(default_factory=Specular)
    """Everything is metal: mirror-like light only."""
    diffuse: Diffuse = field(default_factory=Diffuse)
    """Metallic starts anew at `metallic_start` and is learned."""
    joint: Joint = field(default_factory=Joint)
    """Everything, in smaller steps."""
    refine: Refine = field(default_factory=Refine)
    """Everything, by Monte Carlo."""
    captured_look: Literal["always", "early", "never"] = "always"
    """Where the captured look takes part in pixels; early: in `specular` and `diffuse` only.  Without it there is no
    `specular`."""
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
    share_materials_by: Literal["auto", "colors", "features"] = "colors"
    """What shares roughness and metallic: places of one colour, or of one segment, cut by look, shape and, where the
    stage `features` gave some, features.  auto: what explains the photographs better.  Without `shadows` nothing is
    shared."""
    normal_weight: float = 0.05
    """Weight of the angle between the Gaussians' normals and those of the depth they make (2DGS: 0.05)."""

    def __post_init__(self) -> None:
        if self.renderer != "splat":
            raise ValueError(f"renderer: {self.renderer} is the stage {self.by_renderer[self.renderer]}")
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
        self.light = FittedLighting(
            views, scene.light, size=options.light_size, brightness=options.light_start, device=job.device
        )
        self.captured_look = "never" if self.light.several else options.captured_look
        self.phases: list[Phase] = [options.specular, options.diffuse, options.joint, options.refine]
        if self.captured_look == "never":
            self.phases[0] = replace(options.specular, iterations=0)
        self.order = torch.empty(0, dtype=torch.long)
        self.step, self.quality = 0, 0.0
        self.shader = Shader(self.rasterizer, self.raster)
        self.ground: OnProxy | None = None
        self.shared: SharedMaterials | None = None
        if job.restored is not None:
            self._restore(job.restored)

    def run(self) -> Scene:
        total = sum(phase.iterations for phase in self.phases)
        first = 0
        for number, phase in enumerate(self.phases):
            last = first + phase.iterations
            if number == 1 and self.step == first and first < total:
                self._free_metallic()
                if self.options.shadows:
                    self._make_shadows()
            if self._all_shaded(phase):
                with torch.no_grad():
                    self.parameters["progress"].fill_(ALL)
            if phase.iterations and self.step == first:
                if phase.judge and self.shared is not None:
                    self._judge(self.shared)
                if isinstance(phase, Refine):
                    self.light.resize(phase.light_size)
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
                if self.step < total and self.job.enough():
                    return self._scene()
            first = last
        return self._scene()

    def _make_shadows(self) -> None:
        """A mesh from the splat as it is now; then light and base colour as if all were diffuse."""
        cameras = [self.views.camera(i).to(self.job.device) for i in range(len(self.views))]
        proxy = Proxy(fuse(self.rasterizer, self._gaussians().detach(), cameras, options=self.raster))
        points, normals, look = proxy.closest(self.parameters["means"])
        light = self.light.now().main
        rotation = torch.eye(3) if light is None else light.rotation
        self._stand_on(OnProxy.of(proxy, points, normals, rotation, seed=self.job.seed))
        o = self.options
        parts = None if o.share_materials_by == "colors" else segments(self._surface())
        prior = Prior(o.metallic_start, o.roughness_start, parts, o.share_materials_by)
        begun = begin(self._places(), self.views, self.light, look, prior)
        self.shared = SharedMaterials(begun.shares, {name: getattr(begun, name).logit() for name in KINDS})
        with torch.no_grad():
            self.parameters["base_color"].copy_(torch.logit(begun.albedo.clamp(0.02, 0.95)))
            for name in KINDS:
                self.parameters[name].zero_()

    def _surface(self) -> Surface:
        return seen_surface(self.rasterizer, self._gaussians(), self.views, self.raster)

    def _stand_on(self, ground: OnProxy) -> None:
        """From here on, light comes with shadows and by way of other surfaces, and normals are the proxy's."""
        self.ground = ground
        self.start = replace(self.start, channels={**self.start.channels, "normal": ground.normals})
        self.shader = Shader(self.rasterizer, self.raster, ground.proxy, ground.transfer)

    def _places(self) -> Places:
        assert self.ground is not None
        return self.ground.places(self.rasterizer, self._gaussians().detach(), self.raster)

    def _judge(self, shared: SharedMaterials) -> None:
        """Metallic and roughness of the kinds, and base colour where it was found for another metallic."""
        with torch.no_grad():
            before = self._gaussians().channels["metallic"]
            verdict = judge(Trials.of(self._places().in_views(self.views, self.light)), shared.shares)
            found = verdict.kinds(*(shared.kinds[name].sigmoid() for name in KINDS))
            for name, values in zip(KINDS, found, strict=True):
                shared.set(name, values.logit())
            color, after = self.parameters["base_color"], self._gaussians().channels["metallic"]
            color.copy_(repainted(color, verdict.base_color.logit(), before, after))
        self.parameters.forget("base_color")

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
        rates |= {"sh": 2.5e-4 * phase.look_rate, "progress": phase.progress_rate, "base_color": phase.material_rate}
        if self._all_shaded(phase):
            rates |= {"sh": 0.0, "progress": 0.0}
        for name, rate in (("roughness", phase.roughness_rate), ("metallic", phase.metallic_rate)):
            if self.shared is not None:
                self.shared.set_rate(name, rate)
                rates[name] = rate * phase.place_rate
            else:
                rates[name] = rate if isinstance(phase, Specular) else max(rate, phase.material_rate)
        for name, rate in rates.items():
            self.parameters.set_rate(name, rate)
        self.light.set_rate(phase.light_rate)

    def _all_shaded(self, phase: Phase) -> bool:
        """Whether nothing is left of the captured look."""
        return self.captured_look == "never" or (self.captured_look == "early" and isinstance(phase, Joint))

    def _one_step(self, phase: Phase) -> tuple[float, float]:
        """The loss, and the mean squared error of the picture."""
        if len(self.order) == 0:
            self.order = torch.randperm(len(self.views), generator=self.generator)
        index, self.order = int(self.order[0]), self.order[1:]
        photo, camera = self.views.photo(index).to(self.job.device), self.views.camera(index).to(self.job.device)
        light = self.light.of(self.views[index], camera)
        sampled = isinstance(phase, Refine)
        buffer = self.shader.buffer(self._gaussians(), camera, None if sampled else light)
        expected, behind = photo.rgb, torch.zeros_like(photo.rgb)
        if photo.alpha is not None:
            background = torch.rand(3, generator=self.generator).to(self.job.device)
            behind = (1 - buffer.splat.alpha)[..., None] * background
            expected = photo.rgb * photo.alpha[..., None] + background * (1 - photo.alpha[..., None])
        if sampled:
            loss, shaded = self._noisy_loss(phase, photo, buffer, light)
        else:
            shaded = self.shader.split_sum(buffer, light, rays=self.options.rays, seed=self.step)
            loss = torch.zeros(())
            if phase.direct_weight:
                loss = phase.direct_weight * self._photometric(displayed(buffer, shaded) + behind, expected, photo)
        color = blend(buffer, shaded) + behind
        loss = loss + self._photometric(color, expected, photo) + self._priors(phase, photo, buffer)
        if self.options.normal_weight and phase.geometry_rate and buffer.splat.normals is not None:
            loss = loss + self.options.normal_weight * normal_consistency(buffer.splat, camera)
        loss.backward()
        self.parameters.step()
        self.light.step()
        if self.shared is not None:
            self.shared.step()
        error = (color.detach() - expected).square()
        return float(loss.detach()), float(error.mean() if photo.mask is None else error[photo.mask].mean())

    def _photometric(self, found: Tensor, expected: Tensor, photo: Photo) -> Tensor:
        pair = found.permute(2, 0, 1), expected.permute(2, 0, 1)
        return photometric(*pair, self.options.dssim_weight, photo.mask)

    def _noisy_loss(self, phase: Refine, photo: Photo, buffer: GBuffer, light: Environment) -> tuple[Tensor, Tensor]:
        """Of two estimates; and their mean, cut off, for the loss of what progress and captured look make of it."""
        seeds = [2 * self.step, 2 * self.step + 1]
        one, two = self.shader.monte_carlo(buffer, light, samples=phase.samples, seeds=seeds)
        usable = torch.ones_like(buffer.mask) if photo.mask is None else photo.mask
        if photo.alpha is not None:
            usable = usable & (photo.alpha > 0.99)
        counts = usable[buffer.mask] & (buffer.splat.alpha[buffer.mask] > 0.99)
        loss = noisy_error(one[counts], two[counts], photo.linear()[buffer.mask][counts])
        return phase.direct_weight * loss, ((one + two) / 2).detach()

    def _priors(self, phase: Phase, photo: Photo, buffer: GBuffer) -> Tensor:
        """What is likely of materials and light before any photograph is seen."""
        alpha, loss = buffer.splat.alpha, torch.zeros(())
        if phase.color_weight:
            flat = torch.zeros_like(photo.rgb)
            loss = loss + phase.color_weight * smoothness(buffer.spread(buffer.surface.base_color), flat, buffer.mask)
        if phase.progress_weight:
            wanted = torch.ones_like(alpha) if photo.alpha is None else photo.alpha
            found = buffer.spread(buffer.progress[:, None])[..., 0] * alpha
            loss = loss + phase.progress_weight * (wanted - found).square().mean()
        if phase.white_weight:
            loss = loss + phase.white_weight * self.light.whiteness_penalty()
        if phase.smooth_weight:
            pair = torch.stack([buffer.surface.roughness, buffer.surface.metallic], -1)
            loss = loss + phase.smooth_weight * smoothness(buffer.spread(pair), photo.rgb, buffer.mask)
        if self.shared is not None and phase.place_weight:
            apart = sum(self.parameters[name].square().mean() for name in self.shared.kinds)
            loss = loss + phase.place_weight * apart
        return loss

    def _gaussians(self) -> Gaussians:
        p = self.parameters
        values = {name: p[name] for name in (*GEOMETRY, *LOOK)}
        logits = {name: p[name] for name in MATERIALS}
        if self.shared is not None:
            logits |= {name: p[name] + kinds for name, kinds in self.shared.logits().items()}
        channels = {name: torch.sigmoid(logit) for name, logit in logits.items()}
        return replace(self.start, **values, channels={**self.start.channels, **channels})

    def _scene(self) -> Scene:
        mesh = self.scene.mesh if self.ground is None else self.ground.proxy.mesh
        return replace(self.scene, gaussians=self._gaussians().detach(), light=self.light.found(), mesh=mesh)

    def _checkpoint(self) -> Checkpoint:
        tensors = {**self.parameters.state(), **self.light.state()}
        tensors |= {"order": self.order, "generator": self.generator.get_state()}
        if self.ground is not None:
            tensors |= self.ground.state()
        if self.shared is not None:
            tensors |= self.shared.state()
        return Checkpoint(self.step, tensors, {"quality": self.quality})

    def _restore(self, saved: Checkpoint) -> None:
        self.step, self.quality = saved.step, float(str(saved.values["quality"]))
        self.parameters.restore(saved.tensors)
        self.light.restore(saved.tensors)
        self.order = saved.tensors["order"]
        self.shared = SharedMaterials.restored(saved.tensors)
        self.generator.set_state(saved.tensors["generator"])
        ground = OnProxy.restored(saved.tensors, seed=self.job.seed)
        if ground is not None:
            self._stand_on(ground)
