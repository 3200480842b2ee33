#!/bin/bash
# Source ROS and put the package's environment before it, then run the command.
set -e
source /opt/ros/jazzy/setup.bash
export PATH=/opt/sam2s/venv/bin:$PATH
export AMENT_PREFIX_PATH=/opt/sam2s/venv:$AMENT_PREFIX_PATH
export LD_LIBRARY_PATH=/opt/sam2s/venv/lib:$LD_LIBRARY_PATH
# `ros2` is run by the distribution's Python, and imports the package for its launch files.
export PYTHONPATH=$(echo /opt/sam2s/venv/lib/python3*/site-packages):$PYTHONPATH
exec "$@"
