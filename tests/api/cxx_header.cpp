// arenal.hpp, in each version of C++ that a compiler has. Ends with status 0, or says what does not hold. Without
// cmocka: it is compiled with an installation, too (tests/linking/install_test.sh).
#include <arenal/arenal.hpp>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <string>
#include <thread>
#include <vector>

#define CHECK(condition) ((condition) ? (void)0 : broken(__LINE__, #condition))

static void broken(int line, const char *condition)
{
    std::fprintf(stderr, "cxx_header.cpp:%d: %s does not hold\n", line, condition);
    std::exit(1);
}

static std::size_t blocks_in(arenal_heap *heap)
{
    struct arenal_heap_stats stats;
    CHECK(arenal_heap_stats_get(heap, &stats, sizeof stats) == 0);
    return stats.blocks;
}

struct three_words {
    void *words[3];
};

struct alignas(64) line {
    char bytes[64];
};

// An allocator that knows nothing of it.
template <class T> struct plain_allocator {
    using value_type = T;
    T *allocate(std::size_t count)
    {
        return static_cast<T *>(::operator new(count * sizeof(T)));
    }
    void deallocate(T *block, std::size_t)
    {
        ::operator delete(block);
    }
};

// As std::allocate_at_least: at least as many, all of which may be written to; deallocate takes any count in between.
template <class A> static void check_at_least(A a, bool gives_more)
{
    using T = typename std::allocator_traits<A>::value_type;
    bool more = false;
    for (std::size_t count = 1; count < 3000; count += 1 + count / 5) {
        auto result = arenal::allocate_at_least(a, count);
        CHECK(result.count >= count);
        more |= result.count > count;
        std::memset(static_cast<void *>(result.ptr), 1, result.count * sizeof(T));
        CHECK(arenal_good_size(count * sizeof(T)) < (result.count + 1) * sizeof(T) || !gives_more);
        std::allocator_traits<A>::deallocate(a, result.ptr, result.count);
    }
    CHECK(more == gives_more || std::getenv("ARENAL_HARDEN") != nullptr);
}

static void check_allocators()
{
    check_at_least(plain_allocator<char>(), false);
    check_at_least(std::allocator<char>(), true);
    check_at_least(std::allocator<three_words>(), true);
    check_at_least(arenal::allocator<char>(), true);
    check_at_least(arenal::allocator<three_words>(), true);
    arenal::heap heap;
    check_at_least(arenal::heap_allocator<three_words>(heap), true);
    CHECK(blocks_in(heap.get()) == 0);
#if defined(__cpp_aligned_new)
    arenal::allocator<line> lines;
    line *block = lines.allocate(5);
    CHECK(reinterpret_cast<std::uintptr_t>(block) % 64 == 0);
    lines.deallocate(block, 5);
    std::vector<line, arenal::heap_allocator<line>> of_heap(7, line(), heap);
    CHECK(reinterpret_cast<std::uintptr_t>(of_heap.data()) % 64 == 0);
#endif
    std::vector<int, arenal::allocator<int>> numbers;
    for (int i = 0; i < 10000; i++)
        numbers.push_back(i);
    std::vector<int, arenal::allocator<int>> copy(numbers);
    CHECK(copy[9999] == 9999 && numbers.get_allocator() == copy.get_allocator());
#if defined(__cpp_exceptions)
    bool thrown = false;
    try {
        arenal::allocator<int>().allocate(SIZE_MAX / 2);
    } catch (const std::bad_alloc &) {
        thrown = true;
    }
    CHECK(thrown);
#endif
}

static void check_heap()
{
    arenal::heap heap("containers");
    using pair = std::pair<const int, int>;
    using map = std::map<int, int, std::less<int>, arenal::heap_allocator<pair>>;
    {
        map squares{std::less<int>(), heap};
        for (int i = 0; i < 1000; i++)
            squares[i] = i * i;
        map copy(squares), other{std::less<int>(), arenal::heap()};
        CHECK(copy[31] == 961 && blocks_in(heap.get()) == 2000);
        CHECK(squares.get_allocator() == copy.get_allocator() && squares.get_allocator() != other.get_allocator());
    }
    CHECK(blocks_in(heap.get()) == 0);
    void *block = heap.allocate(1000, 256);
    CHECK(reinterpret_cast<std::uintptr_t>(block) % 256 == 0);
    std::thread([&] { heap.deallocate(block); }).join();
    heap.allocate(10);
    arenal::heap moved(std::move(heap));
    CHECK(heap.get() == nullptr && blocks_in(moved.get()) == 1);
    moved.reset();
    CHECK(blocks_in(moved.get()) == 0);
    heap = std::move(moved);
    CHECK(heap.get() != nullptr && moved.get() == nullptr);
    arenal::heap other("other");
    void *const last = other.allocate(100);
    arenal_heap *const kept = heap.get();
    other = std::move(heap);
    CHECK(other.get() == kept && heap.get() == nullptr && arenal_heap_of(last) == nullptr);
    arenal::heap &same = other;
    other = std::move(same);
    CHECK(other.get() == kept);
}

static void check_resource()
{
#if defined(ARENAL_HAS_RESOURCE)
    arenal::heap heap("pmr"), second;
    arenal::heap_resource resource(heap), same(heap.get()), other(second);
    CHECK(resource == resource && resource != other && resource != *std::pmr::new_delete_resource());
#if defined(__cpp_rtti)
    CHECK(resource == same);
#endif
    {
        std::pmr::vector<std::pmr::string> words(&resource);
        for (int i = 0; i < 1000; i++)
            words.emplace_back("a string that is too long for where short ones lie " + std::to_string(i));
        CHECK(words[999].back() == '9' && blocks_in(heap.get()) == 1001);
        CHECK(arenal_heap_of(words[500].data()) == heap.get());
        std::pmr::monotonic_buffer_resource above(&resource);
        std::pmr::vector<int> numbers(5000, 1, &above);
    }
    CHECK(blocks_in(heap.get()) == 0);
    void *block = resource.allocate(100, 4096);
    CHECK(reinterpret_cast<std::uintptr_t>(block) % 4096 == 0);
    resource.deallocate(block, 100, 4096);
    for (int request = 0; request < 10; request++) {
        new (resource.allocate(sizeof(std::pmr::string))) std::pmr::string(1000, 'x', &resource);
        heap.reset(); // no destructor, and nothing is left
    }
    CHECK(blocks_in(heap.get()) == 0);
#endif
}

int main()
{
    check_allocators();
    check_heap();
    check_resource();
    std::puts("arenal.hpp is right");
    return 0;
}
