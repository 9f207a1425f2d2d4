"""Stage `materials`: textures and light of a mesh from its photographs, by the mesh renderer."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import torch
from torch import Tensor

from relight.diffusion.own.prior import Prior as MaterialPrior
from relight.diffusion.score.options import ScoreOptions
from relight.errors import BackendUnavailableError, MissingPartError
from relight.fit.begin import ALL, Beginning, Prior, begin
from relight.fit.guide import MaterialGuide, photographs
from relight.fit.judge import Trials, judge, repainted
from relight.fit.lighting import FittedLighting
from relight.fit.losses import noisy_error
from relight.fit.moments import moments, restore_moments
from relight.fit.places import Places
from relight.fit.sky import color_shares
from relight.fit.textures import LearnableTextures, Pixels, Shading, glowing, photographed, to_vertices
from relight.geometry.camera import Camera
from relight.geometry.material import Material, Texture
from relight.geometry.mesh import Mesh
from relight.render import tracing
from relight.render.atlas import Texels, texture_size, unwrap
from relight.render.baking import completed
from relight.render.fragments import weighted_corners
from relight.render.meshes import create_mesh_rasterizer, surface_at
from relight.render.monte_carlo import FastMonteCarlo
from relight.render.proxy import Proxy
from relight.render.transfer import bake
from relight.scene import Scene
from relight.shading.color import exposed, linear_to_srgb, srgb_to_linear
from relight.stages.base import Checkpoint, Job, Stage
from relight.views import Views

CLEAR = 2e-3
"""Standard deviations of the vertices that rays start above the mesh, which is known exactly."""
MOST_PLACES = 20_000
"""Texels that light and kinds of material are guessed from."""
SHOWN = 0.05
"""Least confidence of these."""


@dataclass(frozen=True, kw_only=True)
class MeshMaterials(Stage):
    """Base colour, roughness, metallic and light of a mesh: of the stage `mesh`, or a model given by `data.mesh`.

    `distill` by the mesh renderer.  Shape, texture coordinates and normal map stay as they are.  Begins with what
    textures and light hold already; without light, with a closed-form guess.  First split-sum with baked shadows, which
    has no noise, then Monte Carlo.  Light is treated as `distill` does.
    """

    needs: ClassVar[tuple[str, ...]] = ("views", "asset")
    gives: ClassVar[tuple[str, ...]] = ("asset", "light")
    files_or_names: ClassVar[tuple[str, ...]] = ("prior",)
    version: ClassVar[int] = 3

    iterations: int = 400
    """Steps by split-sum."""
    sampled_iterations: int = 200
    """Steps by Monte Carlo, with shadows and light by way of other surfaces."""
    pixels: int = 32_768
    """Of all photographs, a step by split-sum."""
    sampled_pixels: int = 8_192
    """A step by Monte Carlo."""
    samples: int = 8
    """Of light and of material, a pixel and estimate, of which there are two."""
    shadows: bool = True
    """Rays against the mesh.  Without them this is nvdiffrec's split-sum, and light falls through everything."""
    rays: int = 2
    """A pixel and step of split-sum, along what surfaces mirror."""
    start: Literal["auto", "guess", "textures"] = "auto"
    """textures: what asset and scene hold.  guess: from photographs alone.  auto: textures if a stage found light."""
    judge: bool = True
    """After a guess, judge anew before Monte Carlo, in the light found so far, what is metal and how rough; until then
    neither is learned, as split-sum's error would be paid for with it.  Needs `shadows`."""
    metallic_start: float = 0.1
    """Metallic at the start of a guess, where photographs do not tell by how colour moves with the eye.  0 to 1."""
    roughness_start: float = 0.6
    """Roughness at the start of a guess.  0 to 1."""
    light_size: int = 32
    """Rows of the learned map of light, which is twice as wide."""
    material_rate: float = 0.02
    """Learning rate of the logits of base colour, roughness and metallic."""
    progress_rate: float = 0.02
    """Learning rate of the logit of progress, the share of physically based colour."""
    look_rate: float = 0.005
    """Learning rate of the captured look, which explains what materials can't."""
    light_rate: float = 0.01
    """Learning rate of the logarithm of the light."""
    direct_weight: float = 1.0
    """Weight of the loss of the shaded materials alone."""
    progress_weight: float = 0.08
    """Weight of what progress lacks to 1."""
    white_weight: float = 0.003
    """Weight of colour in the light."""
    smooth_weight: float = 0.05
    """Weight of differences between neighbouring texels of like colour."""
    metal_weight: float = 0.05
    """Weight of metallic x darkness: no metal reflects less than half of the light."""
    prior: str = ""
    """A prior of materials to be asked what they could be: "material", which comes with relight, or a file.  Empty:
    none.  It is for few photographs; see docs/priors.md."""
    prior_weight: float = 0.5
    """Of the squared distance, in sRGB and 0 to 1, to what the prior expects; falls to 0 along with the fit, so that
    photographs decide (MaterialFusion, arXiv 2409.15273)."""
    prior_every: int = 2
    """Steps between the questions."""
    prior_size: int = 64
    """Pixels along the side of the pictures that it is asked about."""
    prompt: str = ""
    """Words of the prior's vocabulary for what is photographed, "red glossy metal"."""
    texels_per_pixel: float = 1.0
    """Along the side of a pixel of the photographs, for textures that are made anew."""
    max_texture: int = 2048
    """Most texels along the side of a texture that is made anew."""
    occlusion_rays: int = 32
    """A texel, for the occlusion texture if there is none yet; 0 for none."""

    def __post_init__(self) -> None:
        any_size, share = (0, math.inf), (0.001, 0.999)
        self.check_ranges({
            "iterations": any_size, "sampled_iterations": any_size, "pixels": (64, math.inf),
            "sampled_pixels": (64, math.inf), "samples": (1, 1024), "rays": (1, 64), "metallic_start": share,
            "roughness_start": share, "light_size": (4, 512), "texels_per_pixel": (0.1, 8), "max_texture": (16, 8192),
            "occlusion_rays": (0, 4096), "prior_every": (1, 1000), "prior_size": (16, 512),
            **{n: any_size for n in self.__dataclass_fields__ if n.endswith(("_rate", "_weight"))},
        })  # fmt: skip

    def run(self, scene: Scene, job: Job) -> Scene:
        """Raises MissingPartError without views or mesh, or for photographs that don't show it;
        BackendUnavailableError for shadows without rays; RelightError for a mesh that can't be unwrapped."""
        if scene.views is None or len(scene.views.train) == 0:
            raise MissingPartError("materials: the scene has no training views")
        if scene.asset is None or not len(scene.asset.faces):
            raise MissingPartError("materials: the scene has no mesh; put mesh before it, or name a model in data.mesh")
        reason = tracing.unavailable()
        if reason and (self.shadows or self.start != "textures"):
            raise BackendUnavailableError(f"materials: {reason}")
        return _TextureFit(self, scene, scene.views.train, scene.asset, job).run()


def prepared(mesh: Mesh, views: Views, options: MeshMaterials) -> tuple[Mesh, int]:
    """With normals, tangents and texture coordinates that one texture can be put on, and the side of that texture.

    Coordinates are kept unless there are none, or several materials share one picture's space.
    """
    cameras = [views.camera(i) for i in range(len(views))]
    size = texture_size(mesh, cameras, most=options.max_texture, per_pixel=options.texels_per_pixel)
    used = 1 if mesh.material_ids is None else len(mesh.material_ids.unique())
    if mesh.uv is None or used > 1 or not bool(mesh.uv.isfinite().all()):
        # Maps in other coordinates mean nothing afterwards.
        mesh = unwrap(replace(mesh, material_ids=None, materials=()), size)
    else:
        kept = (
            mesh.materials[int(mesh.material_ids[0]) if mesh.material_ids is not None else 0]
            if mesh.materials
            else None
        )
        mesh = replace(mesh, material_ids=None, materials=(kept or Material(),))
        if kept is not None and kept.base_color_texture is not None:
            size = max(kept.base_color_texture.image.shape[:2])
    if mesh.normals is None or not bool((mesh.normals.norm(dim=1) > 0.5).all()):
        mesh = mesh.with_smooth_normals()
    mapped = bool(mesh.materials) and mesh.materials[0].normal_texture is not None
    return (mesh.with_tangents() if mapped and mesh.tangents is None else mesh), size


class _TextureFit:
    """The state of one fit."""

    def __init__(self, options: MeshMaterials, scene: Scene, views: Views, mesh: Mesh, job: Job):
        self.options, self.scene, self.views, self.job = options, scene, views, job
        self.rasterizer = create_mesh_rasterizer()
        self.generator = torch.Generator().manual_seed(job.seed)
        self.mesh, size = prepared(mesh.to("cpu"), views, options)
        self.texels = Texels.of(self.mesh, size, size, self.rasterizer)
        self.pixels = Pixels.of(self.mesh, views, self.rasterizer, seed=job.seed)
        self.seen = photographed(self.mesh, self.texels, views, self.rasterizer)
        self.light = FittedLighting(
            views, scene.light, size=options.light_size, brightness=1.0, device=torch.device("cpu")
        )
        look = to_vertices(self.mesh, self.texels, self.seen.radiance, self.seen.confidence)
        guesses = options.start == "guess" or (options.start == "auto" and not self._was_fitted())
        self.shading, self.begun = Shading(self.mesh), None
        if options.shadows or guesses:
            at_vertices, tracer = self._places(look)
            if options.shadows:
                self.shading = Shading(self.mesh, at_vertices.proxy, at_vertices.transfer, tracer)
            if guesses:
                self.chosen = self._chosen()
                self.places = self._on_texels(at_vertices)
        materials = self._guessed() if guesses else self._held()
        wrap = self._texture_of("base_color_texture")
        self.textures = LearnableTextures(
            self._picture(materials), self._picture(linear_to_srgb(self.seen.radiance.clamp(0, 1))),
            0.7, ("repeat", "repeat") if wrap is None else wrap.wrap,
        )  # fmt: skip
        self.blends = not self.light.several
        if not self.blends:
            with torch.no_grad():
                self.textures.progress.fill_(ALL)
        self.guide = self._guide() if options.prior else None
        self.named = {n: getattr(self.textures, n) for n in ("materials", "progress", "look")}
        self.adam = torch.optim.Adam([{"params": [p]} for p in self.named.values()], betas=(0.9, 0.99))
        self.step, self.quality = 0, 0.0
        if job.restored is not None:
            self._restore(job.restored)

    def _guide(self) -> MaterialGuide:
        o = self.options
        return MaterialGuide(
            MaterialPrior.load(o.prior), ScoreOptions(guidance="sds", scale=1.0, low=0.3, high=0.9, fades=True,
                                              strength=0.5 * o.prior_weight * o.prior_every, average="pixels"),
            self.mesh, self.rasterizer, photographs(self.mesh, self.views, o.prior_size),
            torch.Generator().manual_seed(self.job.seed + 1), tuple(o.prompt.split()),
        )  # fmt: skip

    def _was_fitted(self) -> bool:
        """Whether a stage found light for the materials that the asset has."""
        light = self.scene.light
        return light is not None and light.main is not None and not light.measured and bool(self.mesh.materials)

    def _places(self, look: Tensor) -> tuple[Places, tracing.Glowing]:
        """The mesh's vertices, which glow with (V, 3) `look`."""
        bare = glowing(self.mesh, look)
        proxy, main = Proxy(bare, CLEAR * float(bare.vertices.std(0).norm())), self.light.now().main
        assert bare.normals is not None
        points = bare.vertices + proxy.lift * bare.normals
        rotation = torch.eye(3) if main is None else main.rotation
        transfer = bake(proxy, points, bare.normals, rotation, seed=self.job.seed)

        def depth(camera: Camera) -> Tensor:
            return self.rasterizer.rasterize(bare.vertices, bare.faces, camera).depth

        return Places(points, bare.normals, proxy, transfer, depth), proxy.glowing

    def _chosen(self) -> Tensor:
        """(S,) of the texels: those that light and kinds of material are guessed from, evenly over the surface."""
        shown = self.seen.confidence > SHOWN
        if int(shown.sum()) < 16:
            raise MissingPartError("materials: photographs show hardly any of the mesh; is it in the cameras' frame?")
        area, face = self.mesh.face_areas(), self.texels.face
        share = shown * (area / torch.bincount(face, minlength=len(area)).clamp_min(1))[face]
        count = min(MOST_PLACES, int(shown.sum()))
        return torch.multinomial(share, count, replacement=True, generator=self.generator).sort().values

    def _on_texels(self, at_vertices: Places) -> Places:
        """Of the chosen texels, from those of the vertices: patterns are finer than triangles, shadows are not."""
        face, weights = self.texels.face[self.chosen], self.texels.weights[self.chosen]
        t, faces = at_vertices.transfer, self.mesh.faces
        received, bounced = (weighted_corners(x, faces, face, weights) for x in (t.weights, t.bounced))
        outside = self.texels.at(self.mesh, "vertices") + self.texels.normals(self.mesh)
        normals = surface_at(self.mesh, face, weights, outside[self.chosen])[0].normal
        points = weighted_corners(at_vertices.points, faces, face, weights)
        transfer = replace(t, weights=received, bounced=bounced)
        return replace(at_vertices, points=points, normals=normals, transfer=transfer)

    def _guessed(self) -> Tensor:
        """(T, 5) materials of texels from photographs alone; learned light begins anew."""
        o, look = self.options, self.seen.radiance
        prior = Prior(o.metallic_start, o.roughness_start)
        begun = self.begun = begin(self.places, self.views, self.light, look[self.chosen], prior)
        lit = torch.ones_like(look)
        lit[self.chosen] = (look[self.chosen] / begun.albedo.clamp_min(1e-3)).clamp_min(1e-3)
        known = torch.zeros(len(look)).index_fill(0, self.chosen, 1.0)
        albedo = (look / completed(self.mesh, self.texels, lit, known)).clamp(0.02, 0.95)
        return torch.cat([albedo, self._of_kinds(albedo, begun.roughness, begun.metallic)], 1)

    def _of_kinds(self, albedo: Tensor, *values: Tensor) -> Tensor:
        """(T, C) values, (K,) each, of the kinds of (T, 3) albedo."""
        assert self.begun is not None
        return color_shares(albedo, self.begun.colors) @ torch.stack(values, 1)

    def _judge(self, begun: Beginning) -> None:
        """Roughness and metallic of all texels, and base colour of kinds that were found to be more or less metal."""
        verdict = judge(Trials.of(self.places.in_views(self.views, self.light)), begun.shares)
        metallic, roughness = verdict.kinds(begun.metallic, begun.roughness)
        with torch.no_grad():
            before = self.textures.materials.sigmoid().flatten(0, 1)[self.texels.index]
            known = begun.shares * verdict.base_color.isfinite().all(1, keepdim=True)
            now, then = (known.mT @ x for x in (verdict.base_color.nan_to_num(0.0), before[self.chosen, :3]))
            factor = torch.where(then > 0, now / then.clamp_min(1e-9), 1.0)
            kinds = self._of_kinds(before[:, :3], roughness, metallic, *factor.unbind(1))
            color = repainted(before[:, :3], before[:, :3] * kinds[:, 2:], before[:, 4], kinds[:, 1]).clamp(0.02, 0.95)
            self.textures.materials.copy_(self._picture(torch.cat([color, kinds[:, :2]], 1)).clamp(0.02, 0.98).logit())

    def _held(self) -> Tensor:
        """(T, 5) materials that the asset has now."""
        eye = self.texels.at(self.mesh, "vertices") + self.texels.normals(self.mesh)
        with torch.no_grad():
            s, _ = surface_at(self.mesh, self.texels.face, self.texels.weights, eye)
        return torch.cat([s.base_color, s.roughness[:, None], s.metallic[:, None]], 1)

    def run(self) -> Scene:
        o = self.options
        total = o.iterations + o.sampled_iterations
        while self.step < total:
            sampled = self.step >= o.iterations
            if self.step == o.iterations:
                if self._judges():
                    assert self.begun is not None
                    self._judge(self.begun)
                # Moments of another loss.
                self.adam.state.clear()
                self.light.forget()
            self._set_rates((self.step - o.iterations) / max(o.sampled_iterations, 1) if sampled else
                            self.step / max(o.iterations, 1), sampled)  # fmt: skip
            loss, error = self._one_step(sampled)
            self.quality = error if self.quality == 0 else 0.95 * self.quality + 0.05 * error
            self.step += 1
            metrics = None
            if self.step % 50 == 0 or self.step == total:
                metrics = {"loss": loss, "train_psnr": -10 * math.log10(max(self.quality, 1e-10))}
                metrics["progress"] = float(self.textures.progress.detach().sigmoid().mean())
            self.job.report(self.step, total, metrics)
            if self.step < total and self.job.checkpoint_due():
                self.job.checkpoint(self._checkpoint())
            if self.step < total and self.job.enough():
                break
        return self._scene()

    def _judges(self) -> bool:
        o = self.options
        return o.judge and o.shadows and self.begun is not None and o.sampled_iterations > 0

    def _set_rates(self, share: float, sampled: bool) -> None:
        """Falling to a tenth in each phase, by half in the second, whose steps are noisier."""
        o, fall = self.options, 10 ** -max(0.0, min(share, 1.0)) * (0.5 if sampled else 1.0)
        rates = (o.material_rate, o.progress_rate * self.blends, o.look_rate * self.blends)
        for group, rate in zip(self.adam.param_groups, rates, strict=True):
            group["lr"] = rate * fall
        self.light.set_rate(o.light_rate * fall)

    def _one_step(self, sampled: bool) -> tuple[float, float]:
        o = self.options
        count = o.sampled_pixels if sampled else o.pixels
        view, pixels = self.pixels.drawn(count, self.views, self.light.given.follows_camera, self.generator)
        light = self.light.of(self.views[view], self.views.camera(view))
        points, progress, look = self.textures.at(pixels)
        if sampled:
            estimator = FastMonteCarlo(o.samples)
            first, radiance = (
                self.shading.sampled(points, light, estimator, seed=1_000_003 * (2 * self.step + i) + self.job.seed)
                for i in range(2)
            )
            loss = o.direct_weight * noisy_error(first, radiance, srgb_to_linear(pixels.color))
        else:
            radiance = self.shading.split_sum(pixels, points, light, rays=o.rays, seed=self.step)
            loss = o.direct_weight * (exposed(radiance) - pixels.color).abs().mean()
        if self.blends:
            # Noise must not teach the blend, which would hide it.
            shown = exposed(radiance.detach() if sampled else radiance)
            loss = loss + (progress * shown + (1 - progress) * look - pixels.color).abs().mean()
            loss = loss + o.progress_weight * (1 - progress).square().mean()
        if o.white_weight:
            loss = loss + o.white_weight * self.light.whiteness_penalty()
        if o.smooth_weight:
            loss = loss + o.smooth_weight * self.textures.unevenness(self.texels.mask)
        if o.metal_weight:
            dark = (1 - 2 * points.base_color.amax(-1)).clamp_min(0)
            loss = loss + o.metal_weight * (points.metallic * dark).mean()
        if self.guide is not None and self.step % o.prior_every == 0:
            done = self.step / (o.iterations + o.sampled_iterations)
            loss = loss + self.guide.loss(self.textures, light, self.shading, done).loss
        loss.backward()
        grown = self.textures.materials.grad
        if grown is not None and not sampled and self._judges():
            grown[..., 3:] = 0
        self.adam.step()
        self.adam.zero_grad()
        self.light.step()
        return float(loss.detach()), float((exposed(radiance.detach()) - pixels.color).square().mean())

    def _texture_of(self, name: str) -> Texture | None:
        return getattr(self.mesh.materials[0], name) if self.mesh.materials else None

    def _picture(self, values: Tensor) -> Tensor:
        """(T, C) values, guesses where nothing was seen, as a picture without gaps."""
        return self.texels.picture(completed(self.mesh, self.texels, values, self.seen.confidence))

    def _scene(self) -> Scene:
        asset = self.textures.asset(
            self.mesh, self.texels, self.seen.confidence, occlusion_rays=self.options.occlusion_rays, seed=self.job.seed
        )
        return replace(self.scene, asset=asset, light=self.light.found())

    def _checkpoint(self) -> Checkpoint:
        tensors = {name: p.detach() for name, p in self.named.items()} | {"generator": self.generator.get_state()}
        for name, p in self.named.items():
            tensors |= moments(self.adam, p, f"adam.{{}}.{name}")
        if self.guide is not None:
            tensors |= {f"guide.{name}": value for name, value in self.guide.score.state().items()}
        return Checkpoint(self.step, {**tensors, **self.light.state()}, {"quality": self.quality})

    def _restore(self, saved: Checkpoint) -> None:
        self.step, self.quality = saved.step, float(str(saved.values["quality"]))
        self.generator.set_state(saved.tensors["generator"])
        self.light.restore(saved.tensors)
        if self.guide is not None:
            self.guide.score.restore(saved.under("guide."))
        with torch.no_grad():
            for name, p in self.named.items():
                p.copy_(saved.tensors[name])
                restore_moments(self.adam, p, saved.tensors, f"adam.{{}}.{name}")
