#include "memory/image.h"

#include "memory/layout.h"
#include "memory/paging.h"

extern "C" char image_start[], image_text_end[], image_rodata_end[], image_end[];

namespace hearth {
namespace {
uint64_t linear(char const* symbol) { return reinterpret_cast<uint64_t>(symbol); }
} // namespace

std::array<ImageSection, 3> image_sections() {
    return {{{linear(::image_start), linear(image_text_end), mapping::code},
             {linear(image_text_end), linear(image_rodata_end), mapping::constant},
             {linear(image_rodata_end), linear(::image_end), mapping::data}}};
}

PhysicalAddress image_physical(uint64_t address) {
    return PhysicalAddress{address - layout::image};
}
PhysicalAddress image_start() { return image_physical(linear(::image_start)); }
PhysicalAddress image_end() { return image_physical(linear(::image_end)); }

} // namespace hearth
