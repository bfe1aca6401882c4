#include "control/cpu_bitmap.h"

#include "domain/guest_memory.h"

#include <algorithm>
#include <cstring>

namespace hearth {
namespace {
constexpr unsigned mask_bytes = max_cpus / 8;
unsigned byte_count(abi::ControlBitmap const& bitmap) {
    return std::min((bitmap.bit_count + 7) / 8, mask_bytes);
}
} // namespace

Result<CpuMask> read_cpus(abi::ControlBitmap const& bitmap) {
    uint8_t bytes[mask_bytes]{};
    TRY((GuestPointer<uint8_t>{bitmap.bits}.read_many({bytes, byte_count(bitmap)})));
    CpuMask cpus;
    memcpy(&cpus.bits, bytes, mask_bytes);
    if (bitmap.bit_count < max_cpus)
        cpus = cpus & CpuMask::first(bitmap.bit_count);
    return cpus;
}

Result<> write_cpus(abi::ControlBitmap const& bitmap, CpuMask cpus) {
    uint8_t bytes[mask_bytes];
    memcpy(bytes, &cpus.bits, mask_bytes);
    GuestPointer<uint8_t> const out{bitmap.bits};
    unsigned const room = (bitmap.bit_count + 7) / 8;
    TRY((out.write_many({bytes, byte_count(bitmap)})));
    constexpr unsigned most = 1024; // nobody has room for more CPUs
    for (unsigned i = mask_bytes; i < std::min(room, most); ++i)
        TRY(out.write(0, i));
    return {};
}

} // namespace hearth
