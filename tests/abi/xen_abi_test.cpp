// abi/xen.h against public/xen.h and public/arch-x86. Compiling is passing.
#include "abi/abi_check.h"

#include "abi/xen.h"
#include "base/result.h"
#include "memory/layout.h"
#include "memory/page.h"

namespace hearth::abi {

SAME_VALUE(Hypercall::set_trap_table, __HYPERVISOR_set_trap_table);
SAME_VALUE(Hypercall::mmu_update, __HYPERVISOR_mmu_update);
SAME_VALUE(Hypercall::set_gdt, __HYPERVISOR_set_gdt);
SAME_VALUE(Hypercall::stack_switch, __HYPERVISOR_stack_switch);
SAME_VALUE(Hypercall::set_callbacks, __HYPERVISOR_set_callbacks);
SAME_VALUE(Hypercall::fpu_taskswitch, __HYPERVISOR_fpu_taskswitch);
SAME_VALUE(Hypercall::sched_op_compat, __HYPERVISOR_sched_op_compat);
SAME_VALUE(Hypercall::platform_op, __HYPERVISOR_platform_op);
SAME_VALUE(Hypercall::set_debugreg, __HYPERVISOR_set_debugreg);
SAME_VALUE(Hypercall::get_debugreg, __HYPERVISOR_get_debugreg);
SAME_VALUE(Hypercall::update_descriptor, __HYPERVISOR_update_descriptor);
SAME_VALUE(Hypercall::memory_op, __HYPERVISOR_memory_op);
SAME_VALUE(Hypercall::multicall, __HYPERVISOR_multicall);
SAME_VALUE(Hypercall::update_va_mapping, __HYPERVISOR_update_va_mapping);
SAME_VALUE(Hypercall::set_timer_op, __HYPERVISOR_set_timer_op);
SAME_VALUE(Hypercall::event_channel_op_compat, __HYPERVISOR_event_channel_op_compat);
SAME_VALUE(Hypercall::xen_version, __HYPERVISOR_xen_version);
SAME_VALUE(Hypercall::console_io, __HYPERVISOR_console_io);
SAME_VALUE(Hypercall::physdev_op_compat, __HYPERVISOR_physdev_op_compat);
SAME_VALUE(Hypercall::grant_table_op, __HYPERVISOR_grant_table_op);
SAME_VALUE(Hypercall::vm_assist, __HYPERVISOR_vm_assist);
SAME_VALUE(Hypercall::update_va_mapping_otherdomain, __HYPERVISOR_update_va_mapping_otherdomain);
SAME_VALUE(Hypercall::iret, __HYPERVISOR_iret);
SAME_VALUE(Hypercall::vcpu_op, __HYPERVISOR_vcpu_op);
SAME_VALUE(Hypercall::set_segment_base, __HYPERVISOR_set_segment_base);
SAME_VALUE(Hypercall::mmuext_op, __HYPERVISOR_mmuext_op);
SAME_VALUE(Hypercall::xsm_op, __HYPERVISOR_xsm_op);
SAME_VALUE(Hypercall::nmi_op, __HYPERVISOR_nmi_op);
SAME_VALUE(Hypercall::sched_op, __HYPERVISOR_sched_op);
SAME_VALUE(Hypercall::callback_op, __HYPERVISOR_callback_op);
SAME_VALUE(Hypercall::xenoprof_op, __HYPERVISOR_xenoprof_op);
SAME_VALUE(Hypercall::event_channel_op, __HYPERVISOR_event_channel_op);
SAME_VALUE(Hypercall::physdev_op, __HYPERVISOR_physdev_op);
SAME_VALUE(Hypercall::hvm_op, __HYPERVISOR_hvm_op);
SAME_VALUE(Hypercall::sysctl, __HYPERVISOR_sysctl);
SAME_VALUE(Hypercall::domctl, __HYPERVISOR_domctl);
SAME_VALUE(Hypercall::kexec_op, __HYPERVISOR_kexec_op);
SAME_VALUE(Hypercall::tmem_op, __HYPERVISOR_tmem_op);
SAME_VALUE(Hypercall::argo_op, __HYPERVISOR_argo_op);
SAME_VALUE(Hypercall::xenpmu_op, __HYPERVISOR_xenpmu_op);
SAME_VALUE(Hypercall::dm_op, __HYPERVISOR_dm_op);
SAME_VALUE(Hypercall::hypfs_op, __HYPERVISOR_hypfs_op);
SAME_VALUE(Hypercall::mca, __HYPERVISOR_mca);

SAME_SIZE(TrapInfo, trap_info);
SAME_FIELD(TrapInfo, vector, trap_info, vector);
SAME_FIELD(TrapInfo, flags, trap_info, flags);
SAME_FIELD(TrapInfo, cs, trap_info, cs);
SAME_FIELD(TrapInfo, address, trap_info, address);
NO_PADDING(TrapInfo);

SAME_SIZE(MmuUpdate, mmu_update);
SAME_FIELD(MmuUpdate, pointer, mmu_update, ptr);
SAME_FIELD(MmuUpdate, value, mmu_update, val);
SAME_VALUE(mmu_normal_pt_update, MMU_NORMAL_PT_UPDATE);
SAME_VALUE(mmu_machphys_update, MMU_MACHPHYS_UPDATE);
SAME_VALUE(mmu_pt_update_preserve_ad, MMU_PT_UPDATE_PRESERVE_AD);
SAME_VALUE(mmu_pt_update_no_translate, MMU_PT_UPDATE_NO_TRANSLATE);

SAME_VALUE(MmuExtCommand::pin_l1_table, MMUEXT_PIN_L1_TABLE);
SAME_VALUE(MmuExtCommand::pin_l2_table, MMUEXT_PIN_L2_TABLE);
SAME_VALUE(MmuExtCommand::pin_l3_table, MMUEXT_PIN_L3_TABLE);
SAME_VALUE(MmuExtCommand::pin_l4_table, MMUEXT_PIN_L4_TABLE);
SAME_VALUE(MmuExtCommand::unpin_table, MMUEXT_UNPIN_TABLE);
SAME_VALUE(MmuExtCommand::new_baseptr, MMUEXT_NEW_BASEPTR);
SAME_VALUE(MmuExtCommand::tlb_flush_local, MMUEXT_TLB_FLUSH_LOCAL);
SAME_VALUE(MmuExtCommand::invlpg_local, MMUEXT_INVLPG_LOCAL);
SAME_VALUE(MmuExtCommand::tlb_flush_multi, MMUEXT_TLB_FLUSH_MULTI);
SAME_VALUE(MmuExtCommand::invlpg_multi, MMUEXT_INVLPG_MULTI);
SAME_VALUE(MmuExtCommand::tlb_flush_all, MMUEXT_TLB_FLUSH_ALL);
SAME_VALUE(MmuExtCommand::invlpg_all, MMUEXT_INVLPG_ALL);
SAME_VALUE(MmuExtCommand::flush_cache, MMUEXT_FLUSH_CACHE);
SAME_VALUE(MmuExtCommand::set_ldt, MMUEXT_SET_LDT);
SAME_VALUE(MmuExtCommand::new_user_baseptr, MMUEXT_NEW_USER_BASEPTR);
SAME_VALUE(MmuExtCommand::clear_page, MMUEXT_CLEAR_PAGE);
SAME_VALUE(MmuExtCommand::copy_page, MMUEXT_COPY_PAGE);
SAME_VALUE(MmuExtCommand::flush_cache_global, MMUEXT_FLUSH_CACHE_GLOBAL);
SAME_VALUE(MmuExtCommand::mark_super, MMUEXT_MARK_SUPER);
SAME_VALUE(MmuExtCommand::unmark_super, MMUEXT_UNMARK_SUPER);
SAME_SIZE(MmuExtOp, mmuext_op);
SAME_FIELD(MmuExtOp, command, mmuext_op, cmd);
SAME_FIELD(MmuExtOp, argument1, mmuext_op, arg1.mfn);
SAME_FIELD(MmuExtOp, argument1, mmuext_op, arg1.linear_addr);
SAME_OFFSET(MmuExtOp, argument2, mmuext_op, arg2.nr_ents);
SAME_FIELD(MmuExtOp, argument2, mmuext_op, arg2.src_mfn);
SAME_FIELD(MmuExtOp, argument2, mmuext_op, arg2.vcpumask);
NO_PADDING(MmuExtOp);

SAME_VALUE(uvmf_flush_mask, UVMF_FLUSHTYPE_MASK);
SAME_VALUE(uvmf_none, UVMF_NONE);
SAME_VALUE(uvmf_tlb_flush, UVMF_TLB_FLUSH);
SAME_VALUE(uvmf_invlpg, UVMF_INVLPG);
SAME_VALUE(uvmf_all, UVMF_ALL);

SAME_SIZE(MulticallEntry, multicall_entry);
SAME_FIELD(MulticallEntry, op, multicall_entry, op);
SAME_FIELD(MulticallEntry, result, multicall_entry, result);
SAME_FIELD(MulticallEntry, arguments, multicall_entry, args);

SAME_VALUE(ConsoleOperation::write, CONSOLEIO_write);
SAME_VALUE(ConsoleOperation::read, CONSOLEIO_read);

SAME_VALUE(VmAssist::four_gb_segments, VMASST_TYPE_4gb_segments);
SAME_VALUE(VmAssist::four_gb_segments_notify, VMASST_TYPE_4gb_segments_notify);
SAME_VALUE(VmAssist::writable_pagetables, VMASST_TYPE_writable_pagetables);
SAME_VALUE(VmAssist::pae_extended_cr3, VMASST_TYPE_pae_extended_cr3);
SAME_VALUE(VmAssist::architectural_iopl, VMASST_TYPE_architectural_iopl);
SAME_VALUE(VmAssist::runstate_update_flag, VMASST_TYPE_runstate_update_flag);
SAME_VALUE(VmAssist::m2p_strict, VMASST_TYPE_m2p_strict);

SAME_VALUE(virq_timer, VIRQ_TIMER);
SAME_VALUE(virq_debug, VIRQ_DEBUG);
SAME_VALUE(virq_console, VIRQ_CONSOLE);
SAME_VALUE(virq_dom_exc, VIRQ_DOM_EXC);
SAME_VALUE(virq_debugger, VIRQ_DEBUGGER);
SAME_VALUE(virq_xenoprof, VIRQ_XENOPROF);
SAME_VALUE(virq_con_ring, VIRQ_CON_RING);
SAME_VALUE(virq_pcpu_state, VIRQ_PCPU_STATE);
SAME_VALUE(virq_mem_event, VIRQ_MEM_EVENT);
SAME_VALUE(virq_enomem, VIRQ_ENOMEM);
SAME_VALUE(virq_xenpmu, VIRQ_XENPMU);
SAME_VALUE(virq_count, NR_VIRQS);

SAME_SIZE(VcpuTimeInfo, vcpu_time_info);
SAME_FIELD(VcpuTimeInfo, version, vcpu_time_info, version);
SAME_FIELD(VcpuTimeInfo, tsc_timestamp, vcpu_time_info, tsc_timestamp);
SAME_FIELD(VcpuTimeInfo, system_time, vcpu_time_info, system_time);
SAME_FIELD(VcpuTimeInfo, tsc_to_system_mul, vcpu_time_info, tsc_to_system_mul);
SAME_FIELD(VcpuTimeInfo, tsc_shift, vcpu_time_info, tsc_shift);
SAME_FIELD(VcpuTimeInfo, flags, vcpu_time_info, flags);
SAME_VALUE(time_tsc_stable, XEN_PVCLOCK_TSC_STABLE_BIT);
NO_PADDING(VcpuTimeInfo);

SAME_SIZE(VcpuInfo, vcpu_info);
SAME_FIELD(VcpuInfo, upcall_pending, vcpu_info, evtchn_upcall_pending);
SAME_FIELD(VcpuInfo, upcall_mask, vcpu_info, evtchn_upcall_mask);
SAME_FIELD(VcpuInfo, pending_select, vcpu_info, evtchn_pending_sel);
SAME_FIELD(VcpuInfo, cr2, vcpu_info, arch.cr2);
SAME_FIELD(VcpuInfo, time, vcpu_info, time);
SAME_VALUE(legacy_max_vcpus, XEN_LEGACY_MAX_VCPUS);

SAME_SIZE(SharedInfo, shared_info);
SAME_FIELD(SharedInfo, vcpu_info, shared_info, vcpu_info);
SAME_FIELD(SharedInfo, event_pending, shared_info, evtchn_pending);
SAME_FIELD(SharedInfo, event_mask, shared_info, evtchn_mask);
SAME_FIELD(SharedInfo, wallclock_version, shared_info, wc_version);
SAME_FIELD(SharedInfo, wallclock_seconds, shared_info, wc_sec);
SAME_FIELD(SharedInfo, wallclock_nanoseconds, shared_info, wc_nsec);
SAME_FIELD(SharedInfo, wallclock_seconds_high, shared_info, wc_sec_hi);
SAME_FIELD(SharedInfo, max_pfn, shared_info, arch.max_pfn);
SAME_FIELD(SharedInfo, p2m_frame_list_list, shared_info, arch.pfn_to_mfn_frame_list_list);
SAME_FIELD(SharedInfo, nmi_reason, shared_info, arch.nmi_reason);
SAME_FIELD(SharedInfo, p2m_cr3, shared_info, arch.p2m_cr3);
SAME_FIELD(SharedInfo, p2m_vaddr, shared_info, arch.p2m_vaddr);
SAME_FIELD(SharedInfo, p2m_generation, shared_info, arch.p2m_generation);

SAME_SIZE(StartInfo, start_info);
SAME_FIELD(StartInfo, magic, start_info, magic);
SAME_FIELD(StartInfo, page_count, start_info, nr_pages);
SAME_FIELD(StartInfo, shared_info, start_info, shared_info);
SAME_FIELD(StartInfo, flags, start_info, flags);
SAME_FIELD(StartInfo, store_mfn, start_info, store_mfn);
SAME_FIELD(StartInfo, store_event_channel, start_info, store_evtchn);
SAME_OFFSET(StartInfo, console.mfn, start_info, console.domU.mfn);
SAME_OFFSET(StartInfo, console.event_channel, start_info, console.domU.evtchn);
SAME_FIELD(StartInfo, page_table_base, start_info, pt_base);
SAME_FIELD(StartInfo, page_table_frames, start_info, nr_pt_frames);
SAME_FIELD(StartInfo, p2m_list, start_info, mfn_list);
SAME_FIELD(StartInfo, module_start, start_info, mod_start);
SAME_FIELD(StartInfo, module_size, start_info, mod_len);
SAME_FIELD(StartInfo, command_line, start_info, cmd_line);
SAME_FIELD(StartInfo, first_p2m_pfn, start_info, first_p2m_pfn);
SAME_FIELD(StartInfo, p2m_frames, start_info, nr_p2m_frames);
SAME_VALUE(start_privileged, SIF_PRIVILEGED);
SAME_VALUE(start_initial_domain, SIF_INITDOMAIN);
SAME_VALUE(start_multiboot_module, SIF_MULTIBOOT_MOD);
SAME_VALUE(start_module_is_pfn, SIF_MOD_START_PFN);
SAME_VALUE(start_p2m_mapped, SIF_VIRT_P2M_4TOOLS);

SAME_SIZE(VgaConsoleInfo, dom0_vga_console_info);
SAME_FIELD(VgaConsoleInfo, video_type, dom0_vga_console_info, video_type);
SAME_FIELD(VgaConsoleInfo, font_height, dom0_vga_console_info, u.text_mode_3.font_height);
SAME_FIELD(VgaConsoleInfo, cursor_x, dom0_vga_console_info, u.text_mode_3.cursor_x);
SAME_FIELD(VgaConsoleInfo, cursor_y, dom0_vga_console_info, u.text_mode_3.cursor_y);
SAME_FIELD(VgaConsoleInfo, rows, dom0_vga_console_info, u.text_mode_3.rows);
SAME_FIELD(VgaConsoleInfo, columns, dom0_vga_console_info, u.text_mode_3.columns);
SAME_VALUE(video_type_vga_text, XEN_VGATYPE_TEXT_MODE_3);

SAME_SIZE(UserRegisters, cpu_user_regs);
#define SAME_REGISTER(name) SAME_FIELD(UserRegisters, name, cpu_user_regs, name)
SAME_REGISTER(r15);
SAME_REGISTER(r14);
SAME_REGISTER(r13);
SAME_REGISTER(r12);
SAME_REGISTER(rbp);
SAME_REGISTER(rbx);
SAME_REGISTER(r11);
SAME_REGISTER(r10);
SAME_REGISTER(r9);
SAME_REGISTER(r8);
SAME_REGISTER(rax);
SAME_REGISTER(rcx);
SAME_REGISTER(rdx);
SAME_REGISTER(rsi);
SAME_REGISTER(rdi);
SAME_REGISTER(error_code);
SAME_REGISTER(entry_vector);
SAME_REGISTER(rip);
SAME_REGISTER(cs);
SAME_REGISTER(saved_upcall_mask);
SAME_REGISTER(rflags);
SAME_REGISTER(rsp);
SAME_REGISTER(ss);
SAME_REGISTER(es);
SAME_REGISTER(ds);
SAME_REGISTER(fs);
SAME_REGISTER(gs);

SAME_SIZE(VcpuGuestContext, vcpu_guest_context);
SAME_FIELD(VcpuGuestContext, fpu, vcpu_guest_context, fpu_ctxt);
SAME_FIELD(VcpuGuestContext, flags, vcpu_guest_context, flags);
SAME_FIELD(VcpuGuestContext, registers, vcpu_guest_context, user_regs);
SAME_FIELD(VcpuGuestContext, traps, vcpu_guest_context, trap_ctxt);
SAME_FIELD(VcpuGuestContext, ldt_base, vcpu_guest_context, ldt_base);
SAME_FIELD(VcpuGuestContext, ldt_entries, vcpu_guest_context, ldt_ents);
SAME_FIELD(VcpuGuestContext, gdt_frames, vcpu_guest_context, gdt_frames);
SAME_FIELD(VcpuGuestContext, gdt_entries, vcpu_guest_context, gdt_ents);
SAME_FIELD(VcpuGuestContext, kernel_ss, vcpu_guest_context, kernel_ss);
SAME_FIELD(VcpuGuestContext, kernel_sp, vcpu_guest_context, kernel_sp);
SAME_FIELD(VcpuGuestContext, control, vcpu_guest_context, ctrlreg);
SAME_FIELD(VcpuGuestContext, debug, vcpu_guest_context, debugreg);
SAME_FIELD(VcpuGuestContext, event_callback, vcpu_guest_context, event_callback_eip);
SAME_FIELD(VcpuGuestContext, failsafe_callback, vcpu_guest_context, failsafe_callback_eip);
SAME_FIELD(VcpuGuestContext, syscall_callback, vcpu_guest_context, syscall_callback_eip);
SAME_FIELD(VcpuGuestContext, vm_assist, vcpu_guest_context, vm_assist);
SAME_FIELD(VcpuGuestContext, fs_base, vcpu_guest_context, fs_base);
SAME_FIELD(VcpuGuestContext, gs_base_kernel, vcpu_guest_context, gs_base_kernel);
SAME_FIELD(VcpuGuestContext, gs_base_user, vcpu_guest_context, gs_base_user);
SAME_VALUE(context_in_kernel, VGCF_in_kernel);
SAME_VALUE(context_failsafe_disables_events, VGCF_failsafe_disables_events);
SAME_VALUE(context_syscall_disables_events, VGCF_syscall_disables_events);

SAME_SIZE(IretContext, iret_context);
SAME_FIELD(IretContext, rax, iret_context, rax);
SAME_FIELD(IretContext, r11, iret_context, r11);
SAME_FIELD(IretContext, rcx, iret_context, rcx);
SAME_FIELD(IretContext, flags, iret_context, flags);
SAME_FIELD(IretContext, rip, iret_context, rip);
SAME_FIELD(IretContext, cs, iret_context, cs);
SAME_FIELD(IretContext, rflags, iret_context, rflags);
SAME_FIELD(IretContext, rsp, iret_context, rsp);
SAME_FIELD(IretContext, ss, iret_context, ss);
SAME_VALUE(iret_in_syscall, VGCF_in_syscall);

SAME_VALUE(SegmentBase::fs, SEGBASE_FS);
SAME_VALUE(SegmentBase::gs_user, SEGBASE_GS_USER);
SAME_VALUE(SegmentBase::gs_kernel, SEGBASE_GS_KERNEL);
SAME_VALUE(SegmentBase::gs_user_selector, SEGBASE_GS_USER_SEL);

// Numbers of the ABI that live elsewhere.
SAME_VALUE(domid_first_reserved, DOMID_FIRST_RESERVED);
SAME_VALUE(domid_self, DOMID_SELF);
SAME_VALUE(domid_io, DOMID_IO);
SAME_VALUE(domid_xen, DOMID_XEN);
SAME_VALUE(domid_invalid, DOMID_INVALID);
SAME_VALUE(layout::start, HYPERVISOR_VIRT_START);
SAME_VALUE(layout::end, HYPERVISOR_VIRT_END);
SAME_VALUE(layout::machine_to_physical, MACH2PHYS_VIRT_START);

#define SAME_ERRNO(ours, theirs) SAME_VALUE(Errno::ours, XEN_##theirs)
SAME_ERRNO(perm, EPERM);
SAME_ERRNO(noent, ENOENT);
SAME_ERRNO(srch, ESRCH);
SAME_ERRNO(io, EIO);
SAME_ERRNO(nxio, ENXIO);
SAME_ERRNO(toobig, E2BIG);
SAME_ERRNO(noexec, ENOEXEC);
SAME_ERRNO(badf, EBADF);
SAME_ERRNO(child, ECHILD);
SAME_ERRNO(again, EAGAIN);
SAME_ERRNO(nomem, ENOMEM);
SAME_ERRNO(access, EACCES);
SAME_ERRNO(fault, EFAULT);
SAME_ERRNO(busy, EBUSY);
SAME_ERRNO(exist, EEXIST);
SAME_ERRNO(xdev, EXDEV);
SAME_ERRNO(nodev, ENODEV);
SAME_ERRNO(isdir, EISDIR);
SAME_ERRNO(inval, EINVAL);
SAME_ERRNO(nfile, ENFILE);
SAME_ERRNO(nospc, ENOSPC);
SAME_ERRNO(rofs, EROFS);
SAME_ERRNO(mlink, EMLINK);
SAME_ERRNO(dom, EDOM);
SAME_ERRNO(range, ERANGE);
SAME_ERRNO(deadlk, EDEADLK);
SAME_ERRNO(nametoolong, ENAMETOOLONG);
SAME_ERRNO(nolck, ENOLCK);
SAME_ERRNO(nosys, ENOSYS);
SAME_ERRNO(notempty, ENOTEMPTY);
SAME_ERRNO(nodata, ENODATA);
SAME_ERRNO(ilseq, EILSEQ);
SAME_ERRNO(overflow, EOVERFLOW);
SAME_ERRNO(badmsg, EBADMSG);
SAME_ERRNO(msgsize, EMSGSIZE);
SAME_ERRNO(nobufs, ENOBUFS);
SAME_ERRNO(isconn, EISCONN);
SAME_ERRNO(notconn, ENOTCONN);
SAME_ERRNO(timedout, ETIMEDOUT);
SAME_ERRNO(connrefused, ECONNREFUSED);
SAME_ERRNO(opnotsupp, EOPNOTSUPP);

} // namespace hearth::abi
