# drop_missing_include_dirs()
#
# Removes from every imported target of this directory each include folder that does not exist. Call it after
# the last find_package().
#
# Why: the targets exported by the ROS wheels on PyPI name an include folder of the machine the wheels were
# built on (/opt/python/cp311-cp311/include/python3.11), and CMake refuses to generate for a target that links
# to one with a missing folder. Where ROS comes from a distribution every folder exists: nothing changes.
# Generator expressions ($<...>) are no plain paths and stay.
function(drop_missing_include_dirs)
  get_property(targets DIRECTORY PROPERTY IMPORTED_TARGETS)
  foreach(target IN LISTS targets)
    get_target_property(folders ${target} INTERFACE_INCLUDE_DIRECTORIES)
    if(NOT folders)
      continue()
    endif()
    set(present "")
    foreach(folder IN LISTS folders)
      if(folder MATCHES "\\$<" OR EXISTS "${folder}")
        list(APPEND present "${folder}")
      endif()
    endforeach()
    if(NOT "${present}" STREQUAL "${folders}")
      set_property(TARGET ${target} PROPERTY INTERFACE_INCLUDE_DIRECTORIES "${present}")
    endif()
  endforeach()
endfunction()
