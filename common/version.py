"""The version of this project, as manifests, reports and drawn pictures record it."""

VERSION = "0.1.0"
