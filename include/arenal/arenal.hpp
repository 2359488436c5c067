// Arenal for C++11 and newer: what a request really gets, for containers; heaps as objects, as allocators, and, from
// C++17 on, as a std::pmr::memory_resource. All of it is inline, and stands on arenal.h, which says more of sizes and
// heaps: who may use them when, and what follows mistakes.
//
// Where exceptions are switched off, what would throw ends the program.
#ifndef ARENAL_HPP
#define ARENAL_HPP

#include "arenal.h"

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <new>
#include <type_traits>
#include <utility>

#if defined(__has_include)
#if __cplusplus >= 201703L && __has_include(<memory_resource>)
#include <memory_resource>
#define ARENAL_HAS_RESOURCE 1
#endif
#endif

namespace arenal
{

namespace detail
{

[[noreturn]] inline void out_of_memory()
{
#if defined(__cpp_exceptions)
    throw std::bad_alloc();
#else
    std::abort();
#endif
}

// Bytes of `count` objects; too many are out of memory.
template <class T> inline std::size_t bytes_of(std::size_t count)
{
    if (count > static_cast<std::size_t>(PTRDIFF_MAX) / sizeof(T))
        out_of_memory();
    return count * sizeof(T);
}

// As many objects as there is room for in what a request for `count` gets.
template <class T> inline std::size_t good_count(std::size_t count)
{
    const std::size_t good = arenal_good_size(bytes_of<T>(count)) / sizeof(T);
    return good > count ? good : count;
}

template <class A>
auto has_at_least(int)
    -> decltype(std::declval<A &>().allocate_at_least(std::size_t(1)).count, std::true_type());
template <class A> std::false_type has_at_least(...);

} // namespace detail

// ---- allocate_at_least ----

// What std::allocate_at_least of C++23 returns: room for `count` objects, as many as were asked for or more.
#if defined(__cpp_lib_allocate_at_least)
template <class Pointer> using allocation_result = std::allocation_result<Pointer>;
#else
template <class Pointer> struct allocation_result {
    Pointer ptr;
    std::size_t count;
};
#endif

namespace detail
{

template <class A>
inline allocation_result<typename std::allocator_traits<A>::pointer> at_least(A &a, std::size_t count, std::true_type)
{
    const auto result = a.allocate_at_least(count);
    return {result.ptr, result.count};
}

template <class A>
inline allocation_result<typename std::allocator_traits<A>::pointer> at_least(A &a, std::size_t count, std::false_type)
{
    return {std::allocator_traits<A>::allocate(a, count), count};
}

} // namespace detail

// As std::allocator_traits<A>::allocate_at_least of C++23: calls a.allocate_at_least(count), or a.allocate(count) for
// allocators without. Throws what that throws.
template <class A>
inline allocation_result<typename std::allocator_traits<A>::pointer> allocate_at_least(A &a, std::size_t count)
{
    return detail::at_least(a, count, decltype(detail::has_at_least<A>(0))());
}

// Of std::allocator: all that operator new gives for so many. It goes back, by deallocate, with the count that this
// returned.
template <class T> inline allocation_result<T *> allocate_at_least(std::allocator<T> &a, std::size_t count)
{
    const std::size_t good = detail::good_count<T>(count);
    return {a.allocate(good), good};
}

// ---- an allocator ----

// As std::allocator, by operator new and delete, and with allocate_at_least in every version of C++. Containers of
// C++23 ask for it; deallocate takes any count from what was asked for to what was returned.
template <class T> class allocator
{
  public:
    using value_type = T;
    using propagate_on_container_move_assignment = std::true_type;
    using is_always_equal = std::true_type;

    allocator() noexcept = default;
    template <class U> allocator(const allocator<U> &) noexcept
    {
    }

    T *allocate(std::size_t count)
    {
        return static_cast<T *>(take(detail::bytes_of<T>(count)));
    }

    allocation_result<T *> allocate_at_least(std::size_t count)
    {
        const std::size_t good = detail::good_count<T>(count);
        return {allocate(good), good};
    }

    void deallocate(T *block, std::size_t) noexcept
    {
#if defined(__cpp_aligned_new)
        if (alignof(T) > __STDCPP_DEFAULT_NEW_ALIGNMENT__)
            return ::operator delete(block, std::align_val_t(alignof(T)));
#endif
        ::operator delete(block);
    }

  private:
    static void *take(std::size_t bytes)
    {
#if defined(__cpp_aligned_new)
        if (alignof(T) > __STDCPP_DEFAULT_NEW_ALIGNMENT__)
            return ::operator new(bytes, std::align_val_t(alignof(T)));
#else
        static_assert(alignof(T) <= alignof(std::max_align_t), "operator new with an alignment came with C++17");
#endif
        return ::operator new(bytes);
    }
};

template <class T, class U> inline bool operator==(const allocator<T> &, const allocator<U> &) noexcept
{
    return true;
}
template <class T, class U> inline bool operator!=(const allocator<T> &, const allocator<U> &) noexcept
{
    return false;
}

// ---- heaps ----

// Owns a heap, and destroys it. Who moved it away has none: then nothing may be asked of it but its end.
class heap
{
  public:
    // Throws std::bad_alloc.
    explicit heap(const char *name = nullptr) : heap_(arenal_heap_create(name))
    {
        if (heap_ == nullptr)
            detail::out_of_memory();
    }
    ~heap()
    {
        arenal_heap_destroy(heap_);
    }
    heap(heap &&other) noexcept : heap_(other.heap_)
    {
        other.heap_ = nullptr;
    }
    heap &operator=(heap &&other) noexcept
    {
        heap moved(std::move(other)); // the old one ends, or goes on if it is moved to itself
        std::swap(heap_, moved.heap_);
        return *this;
    }
    heap(const heap &) = delete;
    heap &operator=(const heap &) = delete;

    // Throws std::bad_alloc.
    void *allocate(std::size_t bytes, std::size_t align = alignof(std::max_align_t))
    {
        void *block = align <= alignof(std::max_align_t) ? arenal_heap_alloc(heap_, bytes)
                                                         : arenal_heap_aligned_alloc(heap_, align, bytes);
        if (block == nullptr)
            detail::out_of_memory();
        return block;
    }
    void deallocate(void *block) noexcept
    {
        arenal_heap_free(heap_, block);
    }

    // Frees all blocks. No destructors run.
    void reset() noexcept
    {
        arenal_heap_reset(heap_);
    }

    // For arenal.h's functions.
    arenal_heap *get() const noexcept
    {
        return heap_;
    }

  private:
    arenal_heap *heap_;
};

// For containers whose memory is to come from a heap, which lives longer than they do. Equal ones have the same heap.
template <class T> class heap_allocator
{
  public:
    using value_type = T;
    using propagate_on_container_copy_assignment = std::true_type;
    using propagate_on_container_move_assignment = std::true_type;
    using propagate_on_container_swap = std::true_type;
    using is_always_equal = std::false_type;

    heap_allocator(arenal_heap *heap) noexcept : heap_(heap)
    {
    }
    heap_allocator(const heap &heap) noexcept : heap_(heap.get())
    {
    }
    template <class U> heap_allocator(const heap_allocator<U> &other) noexcept : heap_(other.get())
    {
    }

    T *allocate(std::size_t count)
    {
        const std::size_t bytes = detail::bytes_of<T>(count);
        void *block = alignof(T) <= alignof(std::max_align_t) ? arenal_heap_alloc(heap_, bytes)
                                                              : arenal_heap_aligned_alloc(heap_, alignof(T), bytes);
        if (block == nullptr)
            detail::out_of_memory();
        return static_cast<T *>(block);
    }

    allocation_result<T *> allocate_at_least(std::size_t count)
    {
        const std::size_t good = detail::good_count<T>(count);
        return {allocate(good), good};
    }

    void deallocate(T *block, std::size_t) noexcept
    {
        arenal_heap_free(heap_, block);
    }

    arenal_heap *get() const noexcept
    {
        return heap_;
    }

  private:
    arenal_heap *heap_;
};

template <class T, class U>
inline bool operator==(const heap_allocator<T> &a, const heap_allocator<U> &b) noexcept
{
    return a.get() == b.get();
}
template <class T, class U>
inline bool operator!=(const heap_allocator<T> &a, const heap_allocator<U> &b) noexcept
{
    return a.get() != b.get();
}

#if defined(ARENAL_HAS_RESOURCE)

// A heap for std::pmr's containers, which it outlives. It does not own the heap.
class heap_resource : public std::pmr::memory_resource
{
  public:
    explicit heap_resource(arenal_heap *heap) noexcept : heap_(heap)
    {
    }
    explicit heap_resource(const heap &heap) noexcept : heap_(heap.get())
    {
    }

    arenal_heap *get() const noexcept
    {
        return heap_;
    }

  private:
    void *do_allocate(std::size_t bytes, std::size_t align) override
    {
        void *block = align <= alignof(std::max_align_t) ? arenal_heap_alloc(heap_, bytes)
                                                         : arenal_heap_aligned_alloc(heap_, align, bytes);
        if (block == nullptr)
            detail::out_of_memory();
        return block;
    }

    void do_deallocate(void *block, std::size_t, std::size_t) override
    {
        arenal_heap_free(heap_, block);
    }

    bool do_is_equal(const std::pmr::memory_resource &other) const noexcept override
    {
#if defined(__cpp_rtti)
        const heap_resource *same = dynamic_cast<const heap_resource *>(&other);
        return same != nullptr && same->heap_ == heap_;
#else
        return this == &other;
#endif
    }

    arenal_heap *heap_;
};

#endif

} // namespace arenal

#endif
