# The programs that users are given: built by the target `programs`, put into bin/ by `cmake --install`.
add_custom_target(programs)

function(sluice_program target)
  add_dependencies(programs ${target})
  install(TARGETS ${target} RUNTIME DESTINATION bin)
endfunction()
