// The granter's side: the entries that a domain shares with Hearth, and which of them are in use.
//
// An entry in guest memory may change at any moment. What counts is what Hearth noted in its own
// ActiveGrant when the use began; the flags in the entry only tell the granter.
#pragma once

#include "abi/grant_table.h"
#include "base/hint.h"
#include "domain/domain.h"

#include <expected>

namespace hearth {

using abi::GrantStatus;

inline constexpr uint32_t default_grant_frames = 64;
inline constexpr uint32_t most_grant_frames = 4096;

/// What an entry offered when its use began.
struct GrantTerms {
    uint64_t frame_or_reference;
    uint16_t offset, length; // what of the frame may be copied
    DomainId via;            // transitive: whose grant it stands for
    bool transitive, sub_page;
};

enum class GrantPurpose : uint8_t { map, copy };

class GrantTable {
public:
    enum class Kind : uint8_t { shared, status };

    GrantTable(Domain& domain, uint32_t max_frames, unsigned max_version)
        : domain_{domain}, max_frames_{max_frames}, max_version_{max_version} {}
    /// nomem.
    Result<> initialise();

    /// 0 while it changes, and after close().
    [[nodiscard]] unsigned version() const { return version_.load(std::memory_order_acquire); }
    [[nodiscard]] uint32_t frames() const { return frames_.load(std::memory_order_acquire); }
    [[nodiscard]] uint32_t status_frames() const;
    [[nodiscard]] uint32_t max_frames(Kind kind) const;
    /// Frame `index` of either kind; the caller made sure that it is there. Stays the domain's
    /// while the domain is alive.
    [[nodiscard]] Mfn frame(Kind kind, uint32_t index) const;

    /// Makes it at least so large. inval: more than it may be; nomem; busy: its version changes.
    /// May reschedule.
    Result<> grow(uint32_t wanted);
    /// busy: entries are in use, or status frames mapped that go; nosys: not that version. May
    /// reschedule.
    Result<> set_version(unsigned version);
    GrantStatus swap(uint32_t a, uint32_t b);

    /// Notes that `user` uses an entry, and shows it in the entry. The frame may be anything yet.
    GrantStatus begin(uint32_t reference, DomainId user, bool write, GrantPurpose purpose,
                      GrantTerms& terms);
    void end(uint32_t reference, bool write);

    /// Of a domain whose vCPUs have left the hypervisor for good: no use begins any more, and the
    /// frames are given back. Uses that are under way end as ever. May reschedule.
    void close();
    /// Frees what close() left.
    void free_structures();

private:
    struct ActiveGrant {
        SpinLock<Rank::grant> lock;
        DomainId user = domid_invalid;
        uint32_t readers = 0, writers = 0;
        GrantTerms terms{};

        [[nodiscard]] bool in_use() const { return readers || writers; }
    };
    static_assert(sizeof(ActiveGrant) == 32);
    /// Of neighbouring entries: there from when one of them is used for the first time.
    static constexpr uint32_t entries_per_piece = 32;
    /// The pieces of as many entries as a frame can have.
    static constexpr uint32_t entries_per_chunk = page_size / sizeof(abi::GrantEntryV1);
    static constexpr uint32_t pieces_per_chunk = entries_per_chunk / entries_per_piece;
    using Piece = Hint<ActiveGrant*>;

    static constexpr uint32_t entries_per_frame(unsigned version) {
        return version == 2 ? page_size / sizeof(abi::GrantEntryV2)
                            : page_size / sizeof(abi::GrantEntryV1);
    }
    static constexpr uint32_t status_frames_for(uint32_t frames) {
        uint32_t const per_frame = page_size / sizeof(uint16_t);
        return (frames * entries_per_frame(2) + per_frame - 1) / per_frame;
    }

    /// Where the piece is, or would be, that has an entry of the table's.
    Piece& piece_of(uint32_t reference) const;
    /// Null beyond the end, and where no entry of its piece was ever used.
    ActiveGrant* active(uint32_t reference) const;
    /// Makes the piece where there is none. bad_reference: beyond the end; no_space.
    std::expected<ActiveGrant*, GrantStatus> obtain(uint32_t reference);
    /// Calls a function for each of the first `count` entries that has an ActiveGrant, under its
    /// lock. May reschedule.
    template <class Function>
    void for_each_active(uint32_t count, Function&& function);
    [[nodiscard]] bool exists(uint32_t reference, unsigned version) const {
        return reference < frames() * entries_per_frame(version);
    }
    abi::GrantEntryV1& entry_v1(uint32_t reference) const;
    abi::GrantEntryV2& entry_v2(uint32_t reference) const;
    uint16_t& status_of(uint32_t reference) const;
    bool claim_v1(uint32_t reference, DomainId user, bool write, GrantTerms& terms);
    bool claim_v2(uint32_t reference, DomainId user, bool write, GrantPurpose purpose,
                  GrantTerms& terms);
    /// Makes the entry show what its ActiveGrant, whose lock is held, says.
    void show_use(uint32_t reference, ActiveGrant const& grant, unsigned version);
    Result<> add_frame();
    Result<> add_status_frames(uint32_t wanted);
    /// After version() became 0: when this returns, nobody works on an entry under the old one.
    /// False if one that is not reserved is in use.
    bool wait_for_users();
    /// By somebody who would go on to look there for what version 1 has elsewhere.
    [[nodiscard]] bool status_frame_is_mapped() const;
    void rewrite_entries(unsigned from, unsigned to);

    Domain& domain_;
    SpinLock<Rank::grant> lock_; // growth, new pieces, and the step to version 0
    std::atomic<unsigned> version_{1};
    std::atomic<bool> closed_{false}; // and version_ is 0 for good
    std::atomic<uint32_t> frames_{0};
    uint32_t status_allocated_ = 0; // kept when the version goes back to 1
    uint32_t const max_frames_;
    unsigned const max_version_;
    Mfn* shared_ = nullptr;
    Mfn* status_ = nullptr;
    Piece** chunks_ = nullptr;
};

} // namespace hearth
