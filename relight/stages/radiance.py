"""Stage `radiance`: fit a splat to photographs."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import torch
from torch import Tensor

from relight.errors import MissingPartError
from relight.fit.densify import AdaptiveDensity, MarkovChainDensity, Schedule
from relight.fit.evaluate import evaluate, means
from relight.fit.losses import normal_consistency, photometric
from relight.fit.moments import moments, restore_moments
from relight.fit.parameters import Parameters
from relight.fit.world import ALONE, World
from relight.geometry import sh
from relight.geometry.camera import Camera
from relight.geometry.gaussians import Gaussians
from relight.geometry.transforms import rigid_from_twist
from relight.render.protocol import RasterOptions
from relight.render.splats import create_rasterizer, render
from relight.scene import Points, Scene
from relight.stages.base import Checkpoint, Job, Stage
from relight.stages.together import followed
from relight.views import Photo


@dataclass(frozen=True, kw_only=True)
class Radiance(Stage):
    """Fit Gaussians with spherical harmonics to the photographs (Kerbl et al., 3D Gaussian Splatting, 2023)."""

    needs: ClassVar[tuple[str, ...]] = ("views", "points")
    gives: ClassVar[tuple[str, ...]] = ("gaussians",)
    version: ClassVar[int] = 2

    iterations: int = 7000
    """Steps of one photograph each.  1 or more; 3000 for a look, 30000 to publish."""
    primitive: Literal["ellipsoid", "surfel"] = "ellipsoid"
    """What a Gaussian is: a 3D ellipsoid (3DGS) or a flat disc (2DGS), which gives better normals."""
    sh_degree: int = 3
    """Highest band of the view-dependent colour.  0 to 3."""
    sh_every: int = 0
    """Steps until the next band is switched on; 0 for a tenth of the iterations, at most 1000 (3DGS)."""
    dssim_weight: float = 0.2
    """Share of 1 - SSIM in the loss, the rest is L1 (3DGS).  0 to 1."""
    density: Literal["default", "mcmc"] = "default"
    """How Gaussians are added: 3DGS's control with absolute gradients and revised opacities, or MCMC."""
    max_gaussians: int = 100_000
    """Most Gaussians.  A CPU step takes about 40 ms at 30,000 and 400 x 225 pixels."""
    initial_gaussians: int = 20_000
    """Most Gaussians at the start; a larger cloud is thinned."""
    initial_opacity: float = 0.1
    """0 to 1 (3DGS: 0.1; MCMC: 0.5)."""
    grow_gradient: float = 0.0004
    """`default` density: screen gradient above which a Gaussian is cloned or split (AbsGS: 0.0004 to 0.0008)."""
    grow_small: float = 0.01
    """`default` density: scene radii; larger Gaussians are split, smaller ones cloned (3DGS: 0.01)."""
    prune_opacity: float = 0.005
    """Gaussians more transparent than this are dropped or moved (3DGS, MCMC: 0.005)."""
    refine_start: float = 0.05
    """Share of the iterations after which density control begins."""
    refine_stop: float = 0.6
    """Share of the iterations after which it ends (3DGS: 0.5; MCMC: 0.83)."""
    refine_every: int = 100
    """Steps between refinements."""
    reset_every: int = 0
    """`default` density: steps between opacity resets; 0 for never (3DGS: 3000, too few for short fits)."""
    mcmc_growth: float = 0.05
    """`mcmc` density: share of new Gaussians a refinement."""
    mcmc_noise: float = 5e5
    """`mcmc` density: size of the random walk, in position learning rates."""
    opacity_weight: float = 0.01
    """Weight of the mean opacity in the loss (MCMC: 0.01): empties what few photographs see."""
    scale_weight: float = 0.01
    """Weight of the mean scale, in scene radii, in the loss (MCMC: 0.01)."""
    normal_weight: float = 0.0
    """Weight of the angle between the Gaussians' normals and those of the depth they make (2DGS: 0.05)."""
    normal_start: float = 0.3
    """Share of the iterations after which that weight counts (2DGS: 0.23)."""
    antialiased: bool = False
    """Mip-Splatting's screen-space filter, which keeps weights when zooming out."""
    filter_3d: bool = False
    """Mip-Splatting's 3D filter: no Gaussian is smaller than what some photograph can resolve."""
    background: Literal["random", "black", "white"] = "random"
    """Behind cut-out objects, while fitting.  Ignored for photographs without alpha."""
    exposure: bool = False
    """Fit a gain and an offset per colour channel and photograph.  Test views are judged without."""
    refine_cameras: bool = False
    """Fit a small rigid motion of every training camera."""
    coarse_until: float = 0.4
    """Share of the iterations fitted at reduced resolution (1/4, then 1/2 of the side), which is quick and steady."""
    processes: int = 1
    """Processes that fit together, each with a photograph of its own in every step: a GPU each on CUDA.  Rates follow
    Grendel-GS (arXiv 2406.18533).  For several GPUs; on a CPU one process uses all cores already."""
    rate_means: float = 1.6e-4
    """Learning rate of positions, scene radii a step, falling exponentially to a hundredth (3DGS)."""
    rate_scales: float = 5e-3
    """Learning rate of log scales (3DGS)."""
    rate_quats: float = 1e-3
    """Learning rate of quaternions (3DGS)."""
    rate_opacity: float = 5e-2
    """Learning rate of opacity logits (3DGS)."""
    rate_sh: float = 2.5e-3
    """Learning rate of the constant colour; higher bands learn 20 times slower (3DGS)."""
    rate_cameras: float = 1e-4
    """Learning rate of camera motions: radians and scene radii."""
    rate_exposure: float = 1e-3
    """Learning rate of exposure gains and offsets."""

    def __post_init__(self) -> None:
        any_size, share = (0, math.inf), (0, 1)
        self.check_ranges({
            "iterations": (1, math.inf), "sh_degree": (0, 3), "sh_every": any_size, "dssim_weight": share,
            "max_gaussians": (1, math.inf), "initial_gaussians": (1, math.inf), "initial_opacity": (0.001, 0.999),
            "grow_gradient": any_size, "grow_small": any_size, "prune_opacity": share, "refine_start": share,
            "refine_stop": share, "refine_every": (1, math.inf), "reset_every": any_size, "mcmc_growth": any_size,
            "mcmc_noise": any_size, "opacity_weight": any_size, "scale_weight": any_size, "coarse_until": share,
            "normal_weight": any_size, "normal_start": share, "processes": (1, 1024),
            **{name: any_size for name in self.__dataclass_fields__ if name.startswith("rate_")},
        })  # fmt: skip

    @property
    def first_points(self) -> int:
        return max(super().first_points, self.initial_gaussians)

    def run(self, scene: Scene, job: Job) -> Scene:
        """Raises MissingPartError without views or points."""
        return _Fit(self, scene, job).run()

    def follow(self, scene: Scene, job: Job, world: World) -> None:
        """See `together.Follows`."""
        _Fit(self, scene, job).steps(world)


class _Fit:
    """The state of one fit."""

    def __init__(self, options: Radiance, scene: Scene, job: Job):
        if scene.views is None or len(scene.views.train) == 0:
            raise MissingPartError("radiance: the scene has no training views")
        if scene.points is None or len(scene.points.positions) == 0:
            raise MissingPartError("radiance: the scene has no points to start from")
        self.options, self.scene, self.views, self.job = options, scene, scene.views.train, job
        # Photographs a step, of which this process takes one.
        self.batch = options.processes
        self.radius = scene.frame.radius
        self.rasterizer = create_rasterizer(job.backend, job.device)
        self.raster = RasterOptions.for_extent(self.radius)
        # Random numbers are drawn on the CPU, so that a seed means the same everywhere.
        self.generator = torch.Generator().manual_seed(job.seed)
        self.device = job.device
        betas = (0.9**self.batch, 0.999**self.batch)
        self.rates = self._rates()
        self.parameters = Parameters(self._initial(scene.points), self.rates, betas)
        self.density = self._density()
        self.order = torch.empty(0, dtype=torch.long)
        self.filter: Tensor | None = None
        # One row a photograph: motion (6), exposure gain logarithms (3), offsets (3).
        self.per_view = torch.zeros(len(self.views), 12, device=self.device, requires_grad=True)
        self.view_adam = torch.optim.Adam([self.per_view], lr=1.0, betas=betas)
        self.step = 0
        self.quality = 0.0
        if job.restored is not None:
            self._restore(job.restored)

    def _initial(self, points: Points) -> dict[str, Tensor]:
        from scipy.spatial import KDTree

        o = self.options
        count = min(o.initial_gaussians, o.max_gaussians, len(points.positions))
        chosen = torch.randperm(len(points.positions), generator=self.generator)[:count]
        positions = points.positions[chosen].float()
        near, _ = KDTree(positions.numpy()).query(positions.numpy(), k=min(4, count))
        distance = torch.from_numpy(near.reshape(count, -1)[:, 1:].astype("float32"))
        spacing = distance.square().mean(1).sqrt() if distance.shape[1] else torch.full((count,), 0.01 * self.radius)
        spacing = spacing.clamp(1e-5 * self.radius, 0.1 * self.radius)
        start = {
            "means": positions,
            "quats_wxyz": torch.nn.functional.normalize(torch.randn(count, 4, generator=self.generator), dim=1),
            "log_scales": spacing.log()[:, None].repeat(1, 3),
            "logit_opacity": torch.full((count,), math.log(o.initial_opacity / (1 - o.initial_opacity))),
            "sh_constant": sh.from_constant(points.colors[chosen].float())[:, None],
            "sh_rest": torch.zeros(count, sh.count(o.sh_degree) - 1, 3),
        }
        return {name: value.to(self.device) for name, value in start.items()}

    def _rates(self) -> dict[str, float]:
        o = self.options
        rates = {
            "means": o.rate_means * self.radius,
            "quats_wxyz": o.rate_quats,
            "log_scales": o.rate_scales,
            "logit_opacity": o.rate_opacity,
            "sh_constant": o.rate_sh,
            "sh_rest": o.rate_sh / 20,
        }
        return {name: rate * math.sqrt(self.batch) for name, rate in rates.items()}

    def _density(self) -> AdaptiveDensity | MarkovChainDensity:
        o = self.options
        schedule = Schedule(
            round(o.refine_start * o.iterations), round(o.refine_stop * o.iterations), o.refine_every, o.max_gaussians,
            self.batch,
        )  # fmt: skip
        if o.density == "mcmc":
            return MarkovChainDensity(schedule, o.prune_opacity, o.mcmc_growth, o.mcmc_noise)
        return AdaptiveDensity(schedule, self.radius, o.grow_gradient, o.grow_small, o.prune_opacity, o.reset_every)

    def run(self) -> Scene:
        if self.batch == 1:
            self.steps(ALONE)
        else:
            with followed(self.options, self.batch, self.scene, self.job, self._checkpoint()) as world:
                self.steps(world)
        result = self._scene()
        scores = means(evaluate(result, self.rasterizer))
        total = self.options.iterations
        self.job.report(self.step, total, {f"test_{k}": v for k, v in scores.items()} or None, scene=result)
        return result

    def steps(self, world: World) -> None:
        """Up to the last one, or to when it is enough."""
        self.world = world
        total = self.options.iterations
        while self.step < total:
            loss, error = self._one_step()
            # Smoothed over about 50 photographs; from the squared error, so that it is a PSNR of something.
            self.quality = error if self.quality == 0 else 0.98 * self.quality + 0.02 * error
            self.step = min(self.step + self.batch, total)
            metrics = None
            if self.step % 50 < self.batch or self.step == total:
                psnr = -10 * math.log10(max(self.quality, 1e-10))
                metrics = {"loss": loss, "train_psnr": psnr, "gaussians": float(len(self.parameters))}
            self.job.report(self.step, total, metrics, scene=self._scene() if metrics else None)
            if self.step < total and self.job.checkpoint_due():
                self.job.checkpoint(self._checkpoint())
            if self.step < total and self.job.enough():
                break

    def _one_step(self) -> tuple[float, float]:
        o, share = self.options, self.step / self.options.iterations
        while len(self.order) < self.batch:
            self.order = torch.cat([self.order, torch.randperm(len(self.views), generator=self.generator)])
        index, self.order = int(self.order[self.world.rank]), self.order[self.batch :]
        scale = 1.0 if share >= o.coarse_until else (0.25 if share < 0.35 * o.coarse_until else 0.5)
        photo, camera = self.views.photo(index, scale).to(self.device), self._camera(index, scale)
        self._keep_filter()
        target, background = self._target(photo)
        image = render(
            self.rasterizer, self._gaussians(self._degree()), camera, options=self.raster, background=background,
            normals=(consistent := o.normal_weight > 0 and share >= o.normal_start),
        )  # fmt: skip
        color = image.color
        if o.exposure:
            color = color * self.per_view[index, 6:9].exp() + self.per_view[index, 9:]
        found, expected = color.permute(2, 0, 1), target.permute(2, 0, 1)
        loss = photometric(found, expected, o.dssim_weight, photo.mask)
        if o.opacity_weight:
            loss = loss + o.opacity_weight * torch.sigmoid(self.parameters["logit_opacity"]).mean()
        if o.scale_weight:
            loss = loss + o.scale_weight * self.parameters["log_scales"].exp().mean() / self.radius
        if consistent:
            loss = loss + o.normal_weight * normal_consistency(image, camera)
        if o.exposure:
            loss = loss + 0.01 * self.per_view[index, 6:].square().sum()
        loss.backward()
        self._share_gradients()
        self.parameters.set_rate("means", self.rates["means"] * 0.01**share)
        self.density.after_backward(self.parameters, image.statistics, camera.width, camera.height, self.world)
        self.parameters.step()
        self._step_views()
        self.density.after_step(self.step + self.batch, self.parameters, self.generator)
        error = (found.detach() - expected).square()
        return float(loss.detach()), float(error.mean() if photo.mask is None else error[:, photo.mask].mean())

    def _share_gradients(self) -> None:
        """Of Gaussians the mean over the batch; of a photograph its own, which no other has."""
        if self.batch > 1:
            gradients = self.parameters.gradients()
            own = [] if self.per_view.grad is None else [self.per_view.grad]
            self.world.add([*gradients, *own])
            for gradient in gradients:
                gradient /= self.batch

    def _camera(self, index: int, scale: float) -> Camera:
        camera = self.views.camera(index, scale).to(self.device)
        if not self.options.refine_cameras:
            return camera
        twist = self.per_view[index, :6] * self.per_view.new_tensor([self.radius] * 3 + [1.0] * 3)
        return Camera(
            camera.world_from_camera @ rigid_from_twist(twist),
            camera.fx, camera.fy, camera.cx, camera.cy, camera.width, camera.height,
        )  # fmt: skip

    def _step_views(self) -> None:
        """Adam on cameras and exposure; a photograph's row moves only when it was seen."""
        if self.per_view.grad is None:
            return
        rates = self.per_view.new_tensor([self.options.rate_cameras] * 6 + [self.options.rate_exposure] * 6)
        before = self.per_view.detach().clone()
        seen = self.per_view.grad.abs().sum(1, keepdim=True) > 0
        self.view_adam.step()
        self.view_adam.zero_grad()
        with torch.no_grad():
            self.per_view.copy_(before + (self.per_view - before) * rates * seen)

    def _target(self, photo: Photo) -> tuple[Tensor, Tensor | None]:
        """(H, W, 3) and the background to render over."""
        background = torch.full((3,), 1.0 if self.options.background == "white" else 0.0)
        # In a batch each process draws the same numbers, whatever photograph it has.
        if self.options.background == "random" and (photo.alpha is not None or self.batch > 1):
            background = torch.rand(3, generator=self.generator)
        if photo.alpha is None:
            return photo.rgb, None
        background = background.to(self.device)
        return photo.rgb * photo.alpha[..., None] + background * (1 - photo.alpha[..., None]), background

    def _degree(self) -> int:
        every = self.options.sh_every or min(1000, max(1, self.options.iterations // 10))
        return min(self.step // every, self.options.sh_degree)

    def _gaussians(self, degree: int) -> Gaussians:
        p = self.parameters
        rest = p["sh_rest"][:, : sh.count(degree) - 1]
        return Gaussians(
            means=p["means"],
            quats_wxyz=p["quats_wxyz"],
            log_scales=p["log_scales"],
            logit_opacity=p["logit_opacity"],
            sh=torch.cat([p["sh_constant"], rest], 1) if degree else p["sh_constant"],
            filter_3d=self.filter,
            surfels=self.options.primitive == "surfel",
            antialiased=self.options.antialiased,
        )

    def _keep_filter(self) -> None:
        """Renew the 3D filter where density control or time has made it stale."""
        stale = self.filter is None or len(self.filter) != len(self.parameters) or self.step % 100 < self.batch
        if self.options.filter_3d and stale:
            self.filter = self._resolvable()

    def _resolvable(self) -> Tensor:
        """(N,) Mip-Splatting's filter: sqrt(0.2) x the finest sampling interval among cameras that see the Gaussian."""
        positions = self.parameters["means"].detach()
        finest = torch.full_like(positions[:, 0], torch.inf)
        for i in range(len(self.views)):
            camera = self.views.camera(i).to(self.device)
            pixels, depth = camera.project(positions)
            size = pixels.new_tensor([camera.width, camera.height])
            seen = ((pixels > -0.15 * size) & (pixels < 1.15 * size)).all(1) & (depth > self.raster.near)
            finest = torch.where(seen, torch.minimum(finest, depth / max(camera.fx, camera.fy)), finest)
        known = finest[finest < torch.inf]
        return math.sqrt(0.2) * finest.clamp_max(float(known.max()) if len(known) else 0.0)

    def _scene(self) -> Scene:
        self._keep_filter()
        return replace(self.scene, gaussians=self._gaussians(self.options.sh_degree).detach())

    def _checkpoint(self) -> Checkpoint:
        tensors = {**self.parameters.state(), **self.density.state(), "order": self.order}
        tensors |= {"generator": self.generator.get_state(), "per_view": self.per_view.detach()}
        if self.filter is not None:
            tensors["filter"] = self.filter
        tensors |= moments(self.view_adam, self.per_view, "view_adam.{}")
        return Checkpoint(self.step, tensors, {"quality": self.quality})

    def _restore(self, saved: Checkpoint) -> None:
        self.step = saved.step
        self.quality = float(str(saved.values["quality"]))
        self.parameters.restore(saved.tensors)
        self.density.restore(saved.tensors, self.device)
        self.order = saved.tensors["order"].clone()
        self.generator.set_state(saved.tensors["generator"])
        self.filter = saved.tensors["filter"].to(self.device) if "filter" in saved.tensors else None
        with torch.no_grad():
            self.per_view.copy_(saved.tensors["per_view"])
        restore_moments(self.view_adam, self.per_view, saved.tensors, "view_adam.{}")
