"""The nodes and the command line."""

from pkgutil import extend_path

# In the source folder this finds the sources; the generated sam2s_ros.msg and sam2s_ros.srv are where the package is
# installed. So `python -m sam2s_ros...` works from the repository's own folder, too.
__path__ = extend_path(__path__, __name__)
