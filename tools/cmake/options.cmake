# What every target of ours is compiled with. Warnings are errors; generated code links sluice_language alone.
add_library(sluice_language INTERFACE)
target_include_directories(sluice_language INTERFACE ${PROJECT_SOURCE_DIR})
# CMake 3.25 knows no cuda_std_20 for nvcc 13, so CUDA gets the flag by hand.
target_compile_options(sluice_language INTERFACE
  $<$<COMPILE_LANGUAGE:CXX>:-std=c++20>
  $<$<COMPILE_LANGUAGE:CUDA>:-std=c++20>)
if(SLUICE_SANITIZE)
  # To look at an object's type the sanitizer asks for a pipe, and takes it to be none where the
  # process has no file descriptor left, as in a test.
  target_compile_options(sluice_language INTERFACE
    $<$<COMPILE_LANGUAGE:CXX>:-fsanitize=${SLUICE_SANITIZE} -fno-sanitize=vptr
      -fno-omit-frame-pointer -fno-sanitize-recover=all -g1>)
  target_link_options(sluice_language INTERFACE -fsanitize=${SLUICE_SANITIZE})
endif()

add_library(sluice_options INTERFACE)
target_link_libraries(sluice_options INTERFACE sluice_language)
# g++ 12 sees overlapping copies in std::string's assignment from a literal (GCC bug 105651).
target_compile_options(sluice_options INTERFACE
  # Of the warnings that only g++ knows.
  $<$<COMPILE_LANG_AND_ID:CXX,Clang>:-Wno-unknown-warning-option>
  $<$<COMPILE_LANGUAGE:CXX>:-Wall -Wextra -Werror -Wshadow -Wno-missing-field-initializers -Wno-restrict>
  $<$<COMPILE_LANGUAGE:CUDA>:-Werror=all-warnings -Xcompiler=-Wall,-Wextra,-Werror>)
