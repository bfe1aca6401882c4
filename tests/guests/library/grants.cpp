#include "library/grants.h"

#include "library/guest.h"

#include <cstring>

namespace guest {

using namespace hearth::abi;

namespace {

void* table;
uint16_t* status_words;
uint64_t first_frame;

} // namespace

int64_t setup_table(uint32_t frames, uint64_t* list) {
    GrantSetupTable request{
        self, 0, frames, GrantStatus::okay, {}, reinterpret_cast<uint64_t>(list)};
    int64_t const error = grant_op(GrantOperation::setup_table, &request);
    return error ? error : +request.status;
}

void set_up_grants() {
    if (table)
        return;
    EXPECT_EQUAL(setup_table(1, &first_frame), 0);
    table = page();
    EXPECT_EQUAL(map_other(table, first_frame, all_rights), 0);
}

int64_t set_grant_version(uint32_t version) {
    // Xen does not take the status frames back while they are mapped.
    if (status_words)
        EXPECT_EQUAL(unmap(status_words), 0);
    GrantSetVersion request{version};
    int64_t const error = grant_op(GrantOperation::set_version, &request);
    if (error || version != 2)
        return error;
    uint64_t frame = 0;
    GrantGetStatusFrames frames{1, self, GrantStatus::okay, reinterpret_cast<uint64_t>(&frame)};
    EXPECT_EQUAL(grant_op(GrantOperation::get_status_frames, &frames), 0);
    EXPECT_EQUAL(+frames.status, 0);
    if (!status_words)
        status_words = static_cast<uint16_t*>(page());
    EXPECT_EQUAL(map_other(status_words, frame, all_rights), 0);
    return 0;
}

GrantEntryV1 volatile& grant_v1(uint32_t reference) {
    return static_cast<GrantEntryV1*>(table)[reference];
}
GrantEntryV2 volatile& grant_v2(uint32_t reference) {
    return static_cast<GrantEntryV2*>(table)[reference];
}
uint16_t volatile& grant_status(uint32_t reference) { return status_words[reference]; }
uint64_t grant_frame() { return first_frame; }

void grant_to(uint32_t reference, uint16_t domain, uint64_t mfn, uint16_t more_flags) {
    GrantEntryV1 volatile& entry = grant_v1(reference);
    entry.frame = static_cast<uint32_t>(mfn);
    entry.domain = domain;
    __atomic_store_n(&entry.flags, static_cast<uint16_t>(grant::permit_access | more_flags),
                     __ATOMIC_SEQ_CST);
}
void take_back(uint32_t reference) {
    EXPECT_EQUAL(uses_of(reference), 0);
    grant_v1(reference).flags = 0;
}
uint16_t uses_of(uint32_t reference) {
    return grant_v1(reference).flags & (grant::reading | grant::writing);
}

GrantMap map_grant(uint64_t host_address, uint32_t flags, uint32_t reference, uint16_t domain) {
    GrantMap request{host_address, flags, reference, domain, GrantStatus::okay, 0, 0};
    EXPECT_EQUAL(grant_op(GrantOperation::map_grant_ref, &request), 0);
    return request;
}
int64_t unmap_grant(uint64_t host_address, uint32_t handle, uint64_t device_address) {
    GrantUnmap request{host_address, device_address, handle, GrantStatus::okay, 0};
    EXPECT_EQUAL(grant_op(GrantOperation::unmap_grant_ref, &request), 0);
    return +request.status;
}
int64_t copy_grant(GrantCopy const& copy) {
    GrantCopy request = copy;
    EXPECT_EQUAL(grant_op(GrantOperation::copy, &request), 0);
    return +request.status;
}

} // namespace guest
