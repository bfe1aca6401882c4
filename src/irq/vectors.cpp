// Where every interrupt vector goes.
#include "arch/apic.h"
#include "arch/registers.h"
#include "irq/irq.h"
#include "irq/nmi.h"
#include "memory/tlb.h"
#include "sched/thread.h"
#include "time/timer.h"

extern "C" void interrupt(hearth::Registers& frame);

void interrupt(hearth::Registers& frame) {
    using namespace hearth;
    uint8_t const vector = static_cast<uint8_t>(frame.vector);
    switch (vector) {
    case arch::vector_flush:
        arch::apic_end_of_interrupt();
        return serve_flush_request();
    case arch::vector_reschedule:
        arch::apic_end_of_interrupt();
        return reschedule_interrupt();
    case arch::vector_timer:
        arch::apic_end_of_interrupt();
        return timer_interrupt();
    case arch::vector_nmi_noted:
        arch::apic_end_of_interrupt();
        return nmi_interrupt();
    case arch::vector_error:
        arch::apic_end_of_interrupt();
        return;
    case arch::vector_spurious:
        return; // no end of interrupt: none was begun (Intel SDM vol. 3A, 11.9)
    default:
        return irq_dispatch(vector);
    }
}
