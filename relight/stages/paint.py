"""Stage `paint`: materials of a mesh that nobody has photographed, from words or like a photograph of a surface."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import torch
from torch import Tensor

from relight.diffusion.own.prior import Prior
from relight.diffusion.own.procedural.environments import environments
from relight.diffusion.own.procedural.frames import Light, pool
from relight.diffusion.pictures.textures import surface_photograph, taken_apart
from relight.diffusion.score.options import ScoreOptions
from relight.errors import MissingPartError
from relight.fit.guide import MaterialGuide, PatchGuide, ShadedGuide, around
from relight.fit.moments import moments, restore_moments
from relight.fit.textures import LearnableTextures, Shading
from relight.render.atlas import Texels, unwrap
from relight.render.meshes import create_mesh_rasterizer
from relight.scene import Scene
from relight.shading.environment import Environment
from relight.stages.base import Checkpoint, Job, Stage

LIGHTS = 32
"""Procedural environments that pictures are drawn in, turned anew each time."""
START = (0.5, 0.5, 0.5, 0.5, 0.1)
"""Linear base colour, roughness and metallic before the first step."""


@dataclass(frozen=True, kw_only=True)
class Paint(Stage):
    """Base colour, roughness and metallic of a mesh that nobody has photographed, as words say.

    Small pictures of the textures from random sides are pulled to what a prior expects of such words.  The prior sees
    materials and no light, so none can be painted in; with `shaded_weight`, also pictures under a light that changes
    with every step and that another prior is told (DreamMat, arXiv 2405.17176).  With `reference`, their patches are
    also made to be distributed as those of a photographed surface, once its light is taken out.
    """

    needs: ClassVar[tuple[str, ...]] = ("asset",)
    gives: ClassVar[tuple[str, ...]] = ("asset",)
    files: ClassVar[tuple[str, ...]] = ("reference",)
    files_or_names: ClassVar[tuple[str, ...]] = ("prior", "shaded_prior")

    prompt: str = ""
    """Words of the prior's vocabulary: a pattern, colours or metals, finishes: "bricks red matte grey".  Empty: what
    the prior likes."""
    reference: str = ""
    """A photograph of a flat surface, seen from straight ahead, that the mesh should look to be made of; a path
    from the scene file."""
    reference_weight: float = 4.0
    """Of the distance of patches from the reference's."""
    iterations: int = 300
    """Steps."""
    guidance: Literal["x0", "sds", "csd", "ism", "sdi", "vsd"] = "sds"
    """The loss; docs/score.md compares them."""
    scale: float = 3.0
    """Of guidance by the words: 1 none."""
    prior: str = "material"
    """A prior of materials: one that comes with relight, or a file."""
    shaded_prior: str = "relight"
    """A prior of pictures in a known light."""
    material_weight: float = 1.0
    """Of the loss of materials."""
    shaded_weight: float = 0.0
    """Of the loss of pictures in a random light."""
    tells_light: bool = True
    """Whether `shaded_prior` is told the light.  If not, what it expects holds lights of its own: they are baked in."""
    size: int = 64
    """Pixels along the side of the pictures; the priors are trained at 64."""
    texture: int = 512
    """Texels along the side of the textures."""
    rate: float = 0.1
    """Learning rate of the logits of materials; falls to a tenth."""
    smooth_weight: float = 0.02
    """Weight of differences between neighbouring texels."""
    occlusion_rays: int = 32
    """A texel, for the occlusion texture if there is none yet; 0 for none."""

    def __post_init__(self) -> None:
        some = (0, math.inf)
        self.check_ranges({
            "iterations": (1, math.inf), "scale": (0, 100), "size": (16, 512), "texture": (16, 8192), "rate": (1e-5, 1),
            "smooth_weight": some, "material_weight": some,
            "reference_weight": some, "shaded_weight": some, "occlusion_rays": (0, 4096),
        })  # fmt: skip

    def run(self, scene: Scene, job: Job) -> Scene:
        """Raises MissingPartError without a mesh; PriorError for words that the prior doesn't know."""
        if scene.asset is None or not len(scene.asset.faces):
            raise MissingPartError("paint: the scene has no mesh; put mesh before it, or name a model in data.mesh")
        return _Painting(self, scene, job).run()


class _Painting:
    """The state of one fit."""

    def __init__(self, options: Paint, scene: Scene, job: Job):
        assert scene.asset is not None
        self.options, self.scene, self.job = options, scene, job
        mesh = replace(scene.asset.to("cpu"), material_ids=None, materials=())
        mesh = unwrap(mesh, options.texture) if mesh.uv is None else mesh
        self.mesh = mesh if mesh.normals is not None else mesh.with_smooth_normals()
        rasterizer = create_mesh_rasterizer()
        self.texels = Texels.of(self.mesh, options.texture, options.texture, rasterizer)
        blank = torch.tensor(START).expand(options.texture, options.texture, 5)
        self.textures = LearnableTextures(blank, blank[..., :3], 1.0 - 1e-6, ("repeat", "repeat"))
        self.shading = Shading(self.mesh)
        self.adam = torch.optim.Adam([self.textures.materials], lr=options.rate, betas=(0.9, 0.99))
        self.generator = torch.Generator().manual_seed(job.seed)
        up = None if scene.frame.up is None else torch.tensor(scene.frame.up)
        sides, words = around(self.mesh, options.size, up), tuple(options.prompt.split())
        score = ScoreOptions(
            guidance=options.guidance, scale=options.scale if words else 1.0, steps=4, low=0.3, high=0.98,
            average="pixels",
        )  # fmt: skip
        self.guide = self.shaded = self.patches = None
        prior = Prior.load(options.prior) if options.material_weight or options.reference else None
        if prior is not None and options.reference:
            photo = surface_photograph(options.reference, options.size)
            example = taken_apart(photo, prior, torch.Generator().manual_seed(job.seed))
            self.patches = PatchGuide(example, self.mesh, rasterizer, sides, self.generator)
        if prior is not None and options.material_weight:
            self.guide = MaterialGuide(prior, score, self.mesh, rasterizer, sides, self.generator, words)
        if options.shaded_weight:
            self.shaded = ShadedGuide(
                Prior.load(options.shaded_prior), replace(score, high=0.8), self.mesh, rasterizer, sides,
                self.generator, lights(job.seed), words, options.tells_light,
            )  # fmt: skip
        self.step = 0
        if job.restored is not None:
            self._restore(job.restored)

    def run(self) -> Scene:
        o = self.options
        while self.step < o.iterations:
            done = self.step / o.iterations
            self.adam.param_groups[0]["lr"] = o.rate * 10**-done
            loss, metrics = self._loss(done)
            loss.backward()
            self.adam.step()
            self.adam.zero_grad()
            self.step += 1
            told = metrics if self.step % 25 == 0 or self.step == o.iterations else None
            self.job.report(self.step, o.iterations, told)
            if self.step < o.iterations and self.job.checkpoint_due():
                self.job.checkpoint(self._checkpoint())
            if self.step < o.iterations and self.job.enough():
                break
        sure = torch.ones(len(self.texels.index))
        asset = self.textures.asset(self.mesh, self.texels, sure, occlusion_rays=o.occlusion_rays, seed=self.job.seed)
        return replace(self.scene, asset=asset)

    def _loss(self, done: float) -> tuple[Tensor, dict[str, float]]:
        o, total, metrics = self.options, torch.zeros(()), {}
        scores = {}
        if self.guide is not None:
            scores["material"] = o.material_weight, self.guide.loss(self.textures, None, self.shading, done)
        if self.shaded is not None:
            scores["shaded"] = o.shaded_weight, self.shaded.loss(self.textures, self.shading, done)
        for name, (weight, score) in scores.items():
            total = total + weight * score.loss
            metrics[f"{name} loss"] = float(score.loss.detach())
        if self.patches is not None:
            loss = self.patches.loss(self.textures)
            total = total + o.reference_weight * loss
            metrics["reference loss"] = float(loss.detach())
        if o.smooth_weight:
            total = total + o.smooth_weight * self.textures.unevenness(self.texels.mask)
        return total, metrics

    def _checkpoint(self) -> Checkpoint:
        tensors = {"materials": self.textures.materials.detach(), "generator": self.generator.get_state()}
        tensors |= moments(self.adam, self.textures.materials, "adam.{}")
        for name, guide in (("guide", self.guide), ("shaded", self.shaded)):
            if guide is not None:
                tensors |= {f"{name}.{k}": v for k, v in guide.score.state().items()}
        return Checkpoint(self.step, tensors, {})

    def _restore(self, saved: Checkpoint) -> None:
        self.step = saved.step
        self.generator.set_state(saved.tensors["generator"])
        with torch.no_grad():
            self.textures.materials.copy_(saved.tensors["materials"])
        restore_moments(self.adam, self.textures.materials, saved.tensors, "adam.{}")
        for name, guide in (("guide", self.guide), ("shaded", self.shaded)):
            if guide is not None:
                guide.score.restore(saved.under(f"{name}."))
        self.generator.set_state(saved.tensors["generator"])


def lights(seed: int) -> Light:
    """Draws procedural environments."""
    return pool([Environment(radiance) for radiance in environments(LIGHTS, seed * 7907)])
