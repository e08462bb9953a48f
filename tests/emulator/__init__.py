"""Runs the project's CUDA kernels on the CPU and judges every access; see README.md."""

from .builder import BuildError, Project, available, build, load
from .runtime import Report, Session, session

__all__ = ["BuildError", "Project", "Report", "Session", "available", "build", "load", "session"]
