# The decoders of zlib, liblzma, lz4 and libzstd, from the distribution's source packages, compiled as the
# hypervisor is. Include after the targets that use them (hypervisor.cmake, hosted.cmake) exist.
cmake_path(GET CMAKE_CURRENT_LIST_DIR PARENT_PATH decompress_root)
cmake_path(GET decompress_root PARENT_PATH decompress_root)
set(decompress_sources ${decompress_root}/build/decompress)
execute_process(COMMAND ${decompress_root}/tools/fetch-decompressors ${decompress_sources}
  RESULT_VARIABLE decompress_fetched)
if(NOT decompress_fetched EQUAL 0)
  message(FATAL_ERROR "tools/fetch-decompressors failed")
endif()

set(zlib ${decompress_sources}/zlib)
set(lz4 ${decompress_sources}/lz4/lib)
set(zstd ${decompress_sources}/libzstd/lib)
set(xz ${decompress_sources}/xz-utils/src)

add_library(hearth_zlib OBJECT
  ${zlib}/adler32.c ${zlib}/crc32.c ${zlib}/inffast.c ${zlib}/inflate.c ${zlib}/inftrees.c ${zlib}/zutil.c)
target_compile_definitions(hearth_zlib PRIVATE Z_SOLO)

add_library(hearth_lz4 OBJECT ${lz4}/lz4.c)

add_library(hearth_zstd OBJECT
  ${zstd}/common/debug.c ${zstd}/common/entropy_common.c ${zstd}/common/error_private.c
  ${zstd}/common/fse_decompress.c ${zstd}/common/xxhash.c ${zstd}/common/zstd_common.c
  ${zstd}/decompress/huf_decompress.c ${zstd}/decompress/zstd_ddict.c
  ${zstd}/decompress/zstd_decompress.c ${zstd}/decompress/zstd_decompress_block.c)
target_compile_definitions(hearth_zstd PRIVATE
  ZSTD_DISABLE_ASM=1 ZSTD_NO_INTRINSICS=1 DYNAMIC_BMI2=0 ZSTD_LEGACY_SUPPORT=0 ZSTD_TRACE=0 DEBUGLEVEL=0)

add_library(hearth_xz OBJECT
  ${xz}/liblzma/check/check.c ${xz}/liblzma/check/crc32_fast.c ${xz}/liblzma/check/crc32_table.c
  ${xz}/liblzma/common/block_decoder.c ${xz}/liblzma/common/block_header_decoder.c
  ${xz}/liblzma/common/block_util.c ${xz}/liblzma/common/common.c ${xz}/liblzma/common/filter_common.c
  ${xz}/liblzma/common/filter_decoder.c ${xz}/liblzma/common/filter_flags_decoder.c
  ${xz}/liblzma/common/index_hash.c ${xz}/liblzma/common/stream_buffer_decoder.c
  ${xz}/liblzma/common/stream_decoder.c ${xz}/liblzma/common/stream_flags_common.c
  ${xz}/liblzma/common/stream_flags_decoder.c ${xz}/liblzma/common/vli_decoder.c
  ${xz}/liblzma/common/vli_size.c
  ${xz}/liblzma/lz/lz_decoder.c ${xz}/liblzma/lzma/lzma2_decoder.c ${xz}/liblzma/lzma/lzma_decoder.c
  ${xz}/liblzma/simple/simple_coder.c ${xz}/liblzma/simple/simple_decoder.c ${xz}/liblzma/simple/x86.c)
target_include_directories(hearth_xz PRIVATE
  ${xz}/common ${xz}/liblzma/api ${xz}/liblzma/check ${xz}/liblzma/common ${xz}/liblzma/delta ${xz}/liblzma/lz
  ${xz}/liblzma/lzma ${xz}/liblzma/rangecoder ${xz}/liblzma/simple)
# MYTHREAD_ENABLED without a kind of threads keeps <signal.h> away.
# CRC32 only, as in Linux's own decoder: the others would cost 20 KiB of tables that no kernel needs.
target_compile_definitions(hearth_xz PRIVATE
  HAVE_STDINT_H=1 HAVE_INTTYPES_H=1 HAVE_STDBOOL_H=1 HAVE__BOOL=1 SIZEOF_SIZE_T=8 MYTHREAD_ENABLED=1
  HAVE_DECODERS=1 HAVE_DECODER_LZMA2=1 HAVE_DECODER_X86=1 HAVE_CHECK_CRC32=1
  TUKLIB_SYMBOL_PREFIX=lzma_ TUKLIB_FAST_UNALIGNED_ACCESS=1)

foreach(library hearth_zlib hearth_lz4 hearth_zstd hearth_xz)
  set_target_properties(${library} PROPERTIES C_STANDARD 11 EXPORT_COMPILE_COMMANDS OFF)
  target_include_directories(${library} BEFORE PRIVATE ${decompress_root}/src/boot/decompress/shim)
  target_compile_options(${library} PRIVATE -w)
  if(TARGET hearth_freestanding)
    target_link_libraries(${library} PRIVATE hearth_freestanding)
  else()
    # The decoders under the address sanitizer too: hostile input reaches them. Not under UBSan, which
    # reports habits of theirs that are harmless here (unaligned loads, offsets from null).
    target_compile_options(${library} PRIVATE -g -O1 -ffreestanding
      $<$<NOT:$<BOOL:${HEARTH_COVERAGE}>>:-fsanitize=address>
      $<$<BOOL:${HEARTH_FUZZ}>:-fsanitize=fuzzer-no-link>)
  endif()
endforeach()

# What compiles our side, and what links the decoders.
if(TARGET hearth_objects)
  set(decompress_user hearth_objects)
  set(decompress_linked hearth_unnamed hearth)
else()
  set(decompress_user hearth_core)
  set(decompress_linked hearth_core)
endif()
target_compile_definitions(${decompress_user} PUBLIC HEARTH_DECOMPRESSORS=1)
target_include_directories(${decompress_user} SYSTEM PRIVATE
  ${zlib} ${lz4} ${zstd} ${xz}/liblzma/api)
foreach(linked ${decompress_linked})
  target_sources(${linked} PRIVATE
    $<TARGET_OBJECTS:hearth_zlib> $<TARGET_OBJECTS:hearth_lz4>
    $<TARGET_OBJECTS:hearth_zstd> $<TARGET_OBJECTS:hearth_xz>)
endforeach()
