// Doubly linked list through a member of its elements; no allocation, O(1) removal.
#pragma once

#include <cstddef>

namespace hearth {

struct ListNode {
    ListNode* next = nullptr;
    ListNode* previous = nullptr;
    [[nodiscard]] bool linked() const { return next != nullptr; }
};

template <class T, ListNode T::* member>
class List {
    ListNode head_{};

    static T* element(ListNode* node) {
        // SAFETY: every node but the head is `member` of a T, since only push_* link nodes.
        auto const offset =
            reinterpret_cast<size_t>(&(reinterpret_cast<T const volatile*>(64)->*member)) - 64;
        return reinterpret_cast<T*>(reinterpret_cast<char*>(node) - offset);
    }
    void ensure() {
        if (!head_.next)
            head_.next = head_.previous = &head_;
    }
    void link(ListNode& node, ListNode* before) {
        node.next = before;
        node.previous = before->previous;
        before->previous->next = &node;
        before->previous = &node;
    }

public:
    [[nodiscard]] bool empty() const { return !head_.next || head_.next == &head_; }
    [[nodiscard]] T* front() { return empty() ? nullptr : element(head_.next); }
    [[nodiscard]] T* back() { return empty() ? nullptr : element(head_.previous); }
    void push_back(T& item) {
        ensure();
        link(item.*member, &head_);
    }
    void push_front(T& item) {
        ensure();
        link(item.*member, head_.next);
    }
    void insert_after(T& position, T& item) { link(item.*member, (position.*member).next); }
    static void remove(T& item) {
        ListNode& node = item.*member;
        node.previous->next = node.next;
        node.next->previous = node.previous; // NOLINT(clang-analyzer-core.NullDereference): linked
        node = {};
    }
    T* pop_front() {
        T* item = front();
        if (item)
            remove(*item);
        return item;
    }
    /// The element after `item`, or null at the end.
    T* next(T& item) {
        ListNode* node = (item.*member).next;
        return node == &head_ ? nullptr : element(node);
    }
    /// The element before `item`, or null at the beginning.
    T* previous(T& item) {
        ListNode* node = (item.*member).previous;
        return node == &head_ ? nullptr : element(node);
    }
};

} // namespace hearth
