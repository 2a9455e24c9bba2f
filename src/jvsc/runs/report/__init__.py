"""Pictures of a finished run; computes nothing."""

# Packages of the extra `command` that a report needs, known before they are imported.
MODULES = ("PIL", "jinja2", "matplotlib", "skimage")
