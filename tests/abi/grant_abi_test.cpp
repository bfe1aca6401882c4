// abi/grant_table.h against the public header. Compiling is passing.
#include "abi/abi_check.h"

#include "abi/grant_table.h"

namespace hearth::abi {

SAME_VALUE(GrantOperation::map_grant_ref, GNTTABOP_map_grant_ref);
SAME_VALUE(GrantOperation::unmap_grant_ref, GNTTABOP_unmap_grant_ref);
SAME_VALUE(GrantOperation::setup_table, GNTTABOP_setup_table);
SAME_VALUE(GrantOperation::dump_table, GNTTABOP_dump_table);
SAME_VALUE(GrantOperation::transfer, GNTTABOP_transfer);
SAME_VALUE(GrantOperation::copy, GNTTABOP_copy);
SAME_VALUE(GrantOperation::query_size, GNTTABOP_query_size);
SAME_VALUE(GrantOperation::unmap_and_replace, GNTTABOP_unmap_and_replace);
SAME_VALUE(GrantOperation::set_version, GNTTABOP_set_version);
SAME_VALUE(GrantOperation::get_status_frames, GNTTABOP_get_status_frames);
SAME_VALUE(GrantOperation::get_version, GNTTABOP_get_version);
SAME_VALUE(GrantOperation::swap_grant_ref, GNTTABOP_swap_grant_ref);
SAME_VALUE(GrantOperation::cache_flush, GNTTABOP_cache_flush);

SAME_VALUE(GrantStatus::okay, GNTST_okay);
SAME_VALUE(GrantStatus::general_error, GNTST_general_error);
SAME_VALUE(GrantStatus::bad_domain, GNTST_bad_domain);
SAME_VALUE(GrantStatus::bad_reference, GNTST_bad_gntref);
SAME_VALUE(GrantStatus::bad_handle, GNTST_bad_handle);
SAME_VALUE(GrantStatus::bad_virtual_address, GNTST_bad_virt_addr);
SAME_VALUE(GrantStatus::bad_device_address, GNTST_bad_dev_addr);
SAME_VALUE(GrantStatus::no_device_space, GNTST_no_device_space);
SAME_VALUE(GrantStatus::permission_denied, GNTST_permission_denied);
SAME_VALUE(GrantStatus::bad_page, GNTST_bad_page);
SAME_VALUE(GrantStatus::bad_copy_argument, GNTST_bad_copy_arg);
SAME_VALUE(GrantStatus::address_too_big, GNTST_address_too_big);
SAME_VALUE(GrantStatus::again, GNTST_eagain);
SAME_VALUE(GrantStatus::no_space, GNTST_no_space);

SAME_VALUE(grant::invalid, GTF_invalid);
SAME_VALUE(grant::permit_access, GTF_permit_access);
SAME_VALUE(grant::accept_transfer, GTF_accept_transfer);
SAME_VALUE(grant::transitive, GTF_transitive);
SAME_VALUE(grant::type_mask, GTF_type_mask);
SAME_VALUE(grant::readonly, GTF_readonly);
SAME_VALUE(grant::reading, GTF_reading);
SAME_VALUE(grant::writing, GTF_writing);
SAME_VALUE(grant::sub_page, GTF_sub_page);
SAME_VALUE(grant::reserved_entries, GNTTAB_NR_RESERVED_ENTRIES);
SAME_VALUE(grant_map::device, GNTMAP_device_map);
SAME_VALUE(grant_map::host, GNTMAP_host_map);
SAME_VALUE(grant_map::readonly, GNTMAP_readonly);
SAME_VALUE(grant_map::application, GNTMAP_application_map);
SAME_VALUE(grant_map::contains_pte, GNTMAP_contains_pte);
SAME_VALUE(grant_map::guest_available_shift, _GNTMAP_guest_avail0);
SAME_VALUE(copy_source_reference, GNTCOPY_source_gref);
SAME_VALUE(copy_destination_reference, GNTCOPY_dest_gref);

SAME_SIZE(GrantEntryV1, grant_entry_v1);
SAME_FIELD(GrantEntryV1, flags, grant_entry_v1, flags);
SAME_FIELD(GrantEntryV1, domain, grant_entry_v1, domid);
SAME_FIELD(GrantEntryV1, frame, grant_entry_v1, frame);
SAME_SIZE(GrantEntryV2, grant_entry_v2);
SAME_OFFSET(GrantEntryV2, domain, grant_entry_v2, hdr.domid);
SAME_OFFSET(GrantEntryV2, offset_or_domain, grant_entry_v2, sub_page.page_off);
SAME_OFFSET(GrantEntryV2, offset_or_domain, grant_entry_v2, transitive.trans_domid);
SAME_OFFSET(GrantEntryV2, length, grant_entry_v2, sub_page.length);
SAME_OFFSET(GrantEntryV2, frame_or_reference, grant_entry_v2, full_page.frame);
SAME_OFFSET(GrantEntryV2, frame_or_reference, grant_entry_v2, sub_page.frame);
SAME_OFFSET(GrantEntryV2, frame_or_reference, grant_entry_v2, transitive.gref);

SAME_SIZE(GrantMap, gnttab_map_grant_ref);
SAME_FIELD(GrantMap, host_address, gnttab_map_grant_ref, host_addr);
SAME_FIELD(GrantMap, flags, gnttab_map_grant_ref, flags);
SAME_FIELD(GrantMap, reference, gnttab_map_grant_ref, ref);
SAME_FIELD(GrantMap, domain, gnttab_map_grant_ref, dom);
SAME_FIELD(GrantMap, status, gnttab_map_grant_ref, status);
SAME_FIELD(GrantMap, handle, gnttab_map_grant_ref, handle);
SAME_FIELD(GrantMap, device_address, gnttab_map_grant_ref, dev_bus_addr);
NO_PADDING(GrantMap);
SAME_SIZE(GrantUnmap, gnttab_unmap_grant_ref);
SAME_FIELD(GrantUnmap, host_address, gnttab_unmap_grant_ref, host_addr);
SAME_FIELD(GrantUnmap, device_address, gnttab_unmap_grant_ref, dev_bus_addr);
SAME_FIELD(GrantUnmap, handle, gnttab_unmap_grant_ref, handle);
SAME_FIELD(GrantUnmap, status, gnttab_unmap_grant_ref, status);
SAME_SIZE(GrantUnmapAndReplace, gnttab_unmap_and_replace);
SAME_FIELD(GrantUnmapAndReplace, host_address, gnttab_unmap_and_replace, host_addr);
SAME_FIELD(GrantUnmapAndReplace, new_address, gnttab_unmap_and_replace, new_addr);
SAME_FIELD(GrantUnmapAndReplace, handle, gnttab_unmap_and_replace, handle);
SAME_FIELD(GrantUnmapAndReplace, status, gnttab_unmap_and_replace, status);
SAME_SIZE(GrantSetupTable, gnttab_setup_table);
SAME_FIELD(GrantSetupTable, domain, gnttab_setup_table, dom);
SAME_FIELD(GrantSetupTable, frame_count, gnttab_setup_table, nr_frames);
SAME_FIELD(GrantSetupTable, status, gnttab_setup_table, status);
SAME_FIELD(GrantSetupTable, frames, gnttab_setup_table, frame_list);
SAME_SIZE(GrantTransfer, gnttab_transfer);
SAME_FIELD(GrantTransfer, mfn, gnttab_transfer, mfn);
SAME_FIELD(GrantTransfer, domain, gnttab_transfer, domid);
SAME_FIELD(GrantTransfer, reference, gnttab_transfer, ref);
SAME_FIELD(GrantTransfer, status, gnttab_transfer, status);
SAME_SIZE(GrantCopySide, gnttab_copy::gnttab_copy_ptr);
SAME_OFFSET(GrantCopySide, reference_or_frame, gnttab_copy::gnttab_copy_ptr, u.ref);
SAME_FIELD(GrantCopySide, reference_or_frame, gnttab_copy::gnttab_copy_ptr, u.gmfn);
SAME_FIELD(GrantCopySide, domain, gnttab_copy::gnttab_copy_ptr, domid);
SAME_FIELD(GrantCopySide, offset, gnttab_copy::gnttab_copy_ptr, offset);
SAME_SIZE(GrantCopy, gnttab_copy);
SAME_OFFSET(GrantCopy, source, gnttab_copy, source);
SAME_OFFSET(GrantCopy, destination, gnttab_copy, dest);
SAME_FIELD(GrantCopy, length, gnttab_copy, len);
SAME_FIELD(GrantCopy, flags, gnttab_copy, flags);
SAME_FIELD(GrantCopy, status, gnttab_copy, status);
NO_PADDING(GrantCopy);
SAME_SIZE(GrantQuerySize, gnttab_query_size);
SAME_FIELD(GrantQuerySize, domain, gnttab_query_size, dom);
SAME_FIELD(GrantQuerySize, frame_count, gnttab_query_size, nr_frames);
SAME_FIELD(GrantQuerySize, max_frame_count, gnttab_query_size, max_nr_frames);
SAME_FIELD(GrantQuerySize, status, gnttab_query_size, status);
SAME_SIZE(GrantSetVersion, gnttab_set_version);
SAME_SIZE(GrantGetStatusFrames, gnttab_get_status_frames);
SAME_FIELD(GrantGetStatusFrames, frame_count, gnttab_get_status_frames, nr_frames);
SAME_FIELD(GrantGetStatusFrames, domain, gnttab_get_status_frames, dom);
SAME_FIELD(GrantGetStatusFrames, status, gnttab_get_status_frames, status);
SAME_FIELD(GrantGetStatusFrames, frames, gnttab_get_status_frames, frame_list);
SAME_SIZE(GrantGetVersion, gnttab_get_version);
SAME_FIELD(GrantGetVersion, domain, gnttab_get_version, dom);
SAME_FIELD(GrantGetVersion, version, gnttab_get_version, version);
SAME_SIZE(GrantSwap, gnttab_swap_grant_ref);
SAME_FIELD(GrantSwap, a, gnttab_swap_grant_ref, ref_a);
SAME_FIELD(GrantSwap, b, gnttab_swap_grant_ref, ref_b);
SAME_FIELD(GrantSwap, status, gnttab_swap_grant_ref, status);

} // namespace hearth::abi
