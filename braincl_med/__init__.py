"""BrainCL-Med: hospitals learn new diagnoses together without handing over or keeping their scans."""

__version__ = "0.1.0"
