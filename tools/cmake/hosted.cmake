# The core as a host library over arch/host, with its unit tests or fuzzers.
set(sanitizers -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer)
if(HEARTH_FUZZ)
  list(APPEND sanitizers -fsanitize=fuzzer-no-link)
endif()
# What is bare metal through and through, and what arch/host has instead:
list(FILTER core_sources EXCLUDE REGEX "src/memory/paging\\.cpp$") # real page tables: arch/host/memory.cpp
list(FILTER core_sources EXCLUDE REGEX "src/memory/image\\.cpp$")  # the linker script's symbols: arch/host/memory.cpp
list(FILTER core_sources EXCLUDE REGEX "src/memory/stacks\\.cpp$") # stacks with guard pages: arch/host/flows.cpp
list(FILTER core_sources EXCLUDE REGEX "src/cpu/(bringup|exceptions|features)\\.cpp$")   # other processors started by real mode code
list(FILTER core_sources EXCLUDE REGEX "src/boot/start.*\\.cpp$")  # the start-up sequence itself
file(GLOB host_sources CONFIGURE_DEPENDS src/arch/host/*.cpp)
add_library(hearth_core STATIC ${core_sources} ${host_sources})
target_include_directories(hearth_core PUBLIC src)
target_compile_definitions(hearth_core PUBLIC HEARTH_HOSTED=1)
target_compile_options(hearth_core PUBLIC ${sanitizers} -g -O1)
target_link_options(hearth_core PUBLIC ${sanitizers} -fuse-ld=lld-19)
target_link_libraries(hearth_core PRIVATE hearth_warnings)
include(tools/cmake/decompress.cmake)

if(HEARTH_FUZZ)
  file(GLOB fuzz_sources CONFIGURE_DEPENDS tests/fuzz/*.cpp)
  foreach(source ${fuzz_sources})
    cmake_path(GET source STEM name)
    add_executable(${name} ${source})
    target_include_directories(${name} PRIVATE tests)
    target_link_libraries(${name} PRIVATE hearth_core hearth_warnings)
    target_link_options(${name} PRIVATE -fsanitize=fuzzer)
  endforeach()
else()
  enable_testing()
  find_package(GTest REQUIRED)
  include(GoogleTest)
  file(GLOB test_sources CONFIGURE_DEPENDS tests/unit/*.cpp tests/abi/*.cpp)
  add_executable(hearth_tests ${test_sources})
  target_include_directories(hearth_tests PRIVATE tests)
  target_link_libraries(hearth_tests PRIVATE hearth_core hearth_warnings GTest::gtest GTest::gtest_main GTest::gmock)
  gtest_discover_tests(hearth_tests DISCOVERY_TIMEOUT 60)
endif()
