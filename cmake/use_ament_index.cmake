# use_ament_index(<prefix>)
#
# Adds a prefix to AMENT_PREFIX_PATH of this CMake run, unless it is there. Call it before the interface packages are
# looked for.
#
# Why: the generators look up their plugins in the ament index, whose folders are those of AMENT_PREFIX_PATH. Sourcing a
# distribution sets it; with ROS from PyPI nothing does, and CMake says "No 'rosidl_typesupport_c' found".
function(use_ament_index prefix)
  get_filename_component(prefix "${prefix}" ABSOLUTE)
  string(FIND ":$ENV{AMENT_PREFIX_PATH}:" ":${prefix}:" position)
  if(position EQUAL -1)
    if("$ENV{AMENT_PREFIX_PATH}" STREQUAL "")
      set(ENV{AMENT_PREFIX_PATH} "${prefix}")
    else()
      set(ENV{AMENT_PREFIX_PATH} "$ENV{AMENT_PREFIX_PATH}:${prefix}")
    endif()
  endif()
endfunction()
