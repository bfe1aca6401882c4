# Test guests: small PV kernels, build/guests/NAME. Those in neighbours/ run beside Domain 0; those in bench/ are timed.
set(guest_library ${CMAKE_SOURCE_DIR}/tests/guests/library)
file(GLOB guest_sources CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/tests/guests/*.cpp
  ${CMAKE_SOURCE_DIR}/tests/guests/neighbours/*.cpp ${CMAKE_SOURCE_DIR}/tests/guests/attacks/*.cpp
  ${CMAKE_SOURCE_DIR}/tests/guests/fuzzer/*.cpp ${CMAKE_SOURCE_DIR}/bench/*.cpp)
# What a guest does not use is not in it: those beside Domain 0 are to be small.
file(GLOB library_sources CONFIGURE_DEPENDS ${guest_library}/*.cpp ${guest_library}/pv/*.cpp ${guest_library}/pv/*.S)
add_library(guest_objects OBJECT ${library_sources})
target_include_directories(guest_objects PRIVATE ${CMAKE_SOURCE_DIR}/src ${CMAKE_SOURCE_DIR}/tests/guests)
target_compile_options(guest_objects PRIVATE -ffreestanding -fno-pie -mcmodel=kernel -mno-red-zone -mno-sse -O1 -ffunction-sections -fdata-sections
  $<$<COMPILE_LANGUAGE:CXX>:-fno-exceptions -fno-rtti -fno-threadsafe-statics -nostdinc++ -isystem${CMAKE_SOURCE_DIR}/tools/freestanding
    -isystem${libcxx_headers} -idirafter/usr/include/x86_64-linux-gnu -idirafter/usr/include>)
set(guests)
foreach(source ${guest_sources})
  cmake_path(GET source STEM name)
  add_library(guest_${name} OBJECT ${source})
  target_include_directories(guest_${name} PRIVATE ${CMAKE_SOURCE_DIR}/src ${CMAKE_SOURCE_DIR}/tests ${CMAKE_SOURCE_DIR}/tests/guests)
  target_compile_options(guest_${name} PRIVATE $<TARGET_PROPERTY:guest_objects,COMPILE_OPTIONS>)
  set(output ${CMAKE_SOURCE_DIR}/build/guests/${name})
  add_custom_command(OUTPUT ${output}
    COMMAND ${CMAKE_COMMAND} -E make_directory ${CMAKE_SOURCE_DIR}/build/guests
    COMMAND ld.lld-19 -static --gc-sections -T ${guest_library}/pv/guest.lds $<TARGET_OBJECTS:guest_objects> $<TARGET_OBJECTS:guest_${name}> -o ${output}
    DEPENDS guest_objects guest_${name} $<TARGET_OBJECTS:guest_objects> $<TARGET_OBJECTS:guest_${name}> ${guest_library}/pv/guest.lds
    COMMAND_EXPAND_LISTS VERBATIM)
  list(APPEND guests ${output})
endforeach()
add_custom_target(guests ALL DEPENDS ${guests})
