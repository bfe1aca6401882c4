# The bare-metal image, build/hearth.
set(CMAKE_CXX_FLAGS_RELEASE "")
set(CMAKE_C_FLAGS_RELEASE "")
find_file(libcxx_headers expected PATHS /usr/lib/llvm-19/include/c++/v1 NO_DEFAULT_PATH NO_CMAKE_FIND_ROOT_PATH REQUIRED)
cmake_path(GET libcxx_headers PARENT_PATH libcxx_headers)

# Off: links in a second, for those who build many images (tests/mutants/).
option(HEARTH_WHOLE_PROGRAM "Optimise the hypervisor as one program" ON)
add_library(hearth_freestanding INTERFACE)
# PIC addressing because the image lies at slot 261 of the address space, out of reach of the
# sign-extended 32-bit addresses that -mcmodel=kernel produces; the link address is still fixed.
target_compile_options(hearth_freestanding INTERFACE
  -ffreestanding -fpie -mcmodel=small -fvisibility=hidden -fdirect-access-external-data
  -mno-red-zone -mno-mmx -mno-sse -mno-sse2 -mno-avx -mno-implicit-float
  -mretpoline -mretpoline-external-thunk -mstack-alignment=8 -fno-stack-protector -fno-asynchronous-unwind-tables -fno-omit-frame-pointer -momit-leaf-frame-pointer -fno-jump-tables
  -ffunction-sections -fdata-sections -O2 -g
  $<$<AND:$<COMPILE_LANGUAGE:CXX>,$<BOOL:${HEARTH_WHOLE_PROGRAM}>>:-flto>
  $<$<COMPILE_LANGUAGE:CXX>:-fno-exceptions -fno-rtti -fno-threadsafe-statics -fno-use-cxa-atexit
    -nostdinc++ -isystem${CMAKE_SOURCE_DIR}/tools/freestanding -isystem${libcxx_headers}
    -idirafter/usr/include/x86_64-linux-gnu -idirafter/usr/include>)

file(GLOB arch_sources CONFIGURE_DEPENDS src/arch/x86/*.cpp src/arch/x86/*.S)
list(FILTER arch_sources EXCLUDE REGEX "wrap\\.S$")
add_library(hearth_objects OBJECT ${core_sources} ${arch_sources})
target_include_directories(hearth_objects PRIVATE src)
target_link_libraries(hearth_objects PRIVATE hearth_freestanding hearth_warnings)

# lld directly: for this target clang would call the host's gcc to link.
set(link_rule "ld.lld-19 -static --gc-sections -z max-page-size=4096 -z noexecstack --build-id=none --lto-O2 --mllvm=--relocation-model=pic -T ${CMAKE_SOURCE_DIR}/src/arch/x86/hearth.lds <OBJECTS> -o <TARGET>")
set(CMAKE_CXX_LINK_EXECUTABLE ${link_rule})
set(CMAKE_ASM_LINK_EXECUTABLE ${link_rule})
add_executable(hearth_unnamed $<TARGET_OBJECTS:hearth_objects>)
add_executable(hearth $<TARGET_OBJECTS:hearth_objects>)
foreach(linked hearth_unnamed hearth)
set_target_properties(${linked} PROPERTIES LINK_DEPENDS ${CMAKE_SOURCE_DIR}/src/arch/x86/hearth.lds
  OUTPUT_NAME ${linked}.elf64)
endforeach()
if(EXISTS ${CMAKE_SOURCE_DIR}/tools/cmake/decompress.cmake)
  include(tools/cmake/decompress.cmake)
endif()

# Linked twice: the second time with the table of symbols that stack traces print. The table comes after all code,
# so no address in it moves.
set(symbols ${CMAKE_BINARY_DIR}/symbols.S)
add_custom_command(OUTPUT ${symbols}
  COMMAND ${CMAKE_SOURCE_DIR}/tools/make-symbols $<TARGET_FILE:hearth_unnamed> ${symbols}
  DEPENDS hearth_unnamed ${CMAKE_SOURCE_DIR}/tools/make-symbols VERBATIM)
target_sources(hearth PRIVATE ${symbols})

# The file that boot loaders take: build/hearth.
set(image ${CMAKE_SOURCE_DIR}/build/hearth)
add_custom_command(OUTPUT ${image}
  COMMAND ${CMAKE_SOURCE_DIR}/tools/wrap-image $<TARGET_FILE:hearth> ${image}
  DEPENDS hearth ${CMAKE_SOURCE_DIR}/tools/wrap-image ${CMAKE_SOURCE_DIR}/src/arch/x86/wrap.S
    ${CMAKE_SOURCE_DIR}/src/arch/x86/wrap.lds VERBATIM)
add_custom_target(image ALL DEPENDS ${image})
include(tools/cmake/guests.cmake)
