"""What pyproject.toml cannot say: all packages that are found, and the viewer, whose folder has another name."""

from setuptools import find_packages, setup

setup(
    packages=[*find_packages(include=["relight", "relight.*"]), "relight.viewer", "relight.viewer.web"],
    package_dir={"relight.viewer": "viewer"},
    package_data={
        "relight": ["py.typed"],
        "relight.diffusion.own": ["weights/*"],
        "relight.diffusion.portrait": ["weights/*"],
        "relight.viewer": ["*.js"],
        "relight.viewer.web": ["*.html", "*.js"],
    },
)
