# install_folder(<folder> <destination>)
#   Installs a folder of this repository, all files included, as <destination>/<folder>.
#
# The installed folder is removed first, so that a file deleted here is not found there. The interfaces go into
# the folder of the Python package sam2s_ros, so call this before rosidl_generate_interfaces().
#
# With `colcon build --symlink-install` ament makes links in a script of its own, which runs before the code of any
# other install(): the removal has to stand in that script, or it would take the links away again.
#
# ament_python_install_package() cannot be used for a package that has the name of the interfaces: the generator
# calls it with that name already.
function(install_folder folder destination)
  if(AMENT_CMAKE_SYMLINK_INSTALL)
    ament_cmake_symlink_install_append_install_code(
      "file(REMOVE_RECURSE \"${CMAKE_INSTALL_PREFIX}/${destination}/${folder}\")")
  else()
    install(CODE "file(REMOVE_RECURSE \"\$ENV{DESTDIR}\${CMAKE_INSTALL_PREFIX}/${destination}/${folder}\")")
  endif()
  install(DIRECTORY ${folder} DESTINATION ${destination} PATTERN __pycache__ EXCLUDE PATTERN *.pyc EXCLUDE)
endfunction()

# install_python_main(<program> <module> <destination> <template>)
#   Installs an executable that calls main() of a Python module, run by the Python that CMake found.
#   template: main.py.in, or node.py.in for what sam2s_ros/processes/process.py runs; of scripts/
function(install_python_main program module destination template)
  set(PYTHON_MODULE ${module})
  configure_file(scripts/${template} configured/${program} @ONLY)
  # Executable already here, where links of `colcon build --symlink-install` lead.
  file(COPY ${CMAKE_CURRENT_BINARY_DIR}/configured/${program} DESTINATION ${CMAKE_CURRENT_BINARY_DIR}/scripts
    FILE_PERMISSIONS OWNER_READ OWNER_WRITE OWNER_EXECUTE GROUP_READ GROUP_EXECUTE WORLD_READ WORLD_EXECUTE)
  install(PROGRAMS ${CMAKE_CURRENT_BINARY_DIR}/scripts/${program} DESTINATION ${destination})
endfunction()
