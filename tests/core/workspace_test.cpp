#include "moe/core/workspace.hpp"

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <limits>
#include <span>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "support/catch.hpp"
#include "support/errors.hpp"

namespace moe_test::workspace_test {

using moe::AlignedBuffer;
using moe::Arena;
using moe::buffer_alignment;
using moe::ErrorCode;
using moe::Workspace;
using moe_test::contains;
using moe_test::error_of;

namespace {

bool aligned(const void* pointer) { return reinterpret_cast<std::uintptr_t>(pointer) % buffer_alignment == 0; }

#if defined(__linux__)
/// Whether the mapping that holds `address` carries the flag of madvise(MADV_HUGEPAGE).
bool huge_pages_asked_for(const void* address) {
    const auto wanted = reinterpret_cast<std::uintptr_t>(address);
    std::ifstream maps("/proc/self/smaps");
    bool inside = false;
    for (std::string line; std::getline(maps, line);) {
        std::uintptr_t begin = 0;
        std::uintptr_t end = 0;
        char dash = '\0';
        std::istringstream words(line);
        if (words >> std::hex >> begin >> dash >> end && dash == '-') {
            inside = begin <= wanted && wanted < end;
        } else if (inside && line.rfind("VmFlags:", 0) == 0) {
            return (line + " ").find(" hg ") != std::string::npos;
        }
    }
    return false;
}
#endif

/// Some pieces of odd sizes; returns the bytes used.
std::size_t lay_out(Arena& arena) {
    (void)arena.take<char>(1);
    (void)arena.take<double>(9);
    (void)arena.take<float>(0);
    (void)arena.take<std::uint16_t>(33);
    return arena.used();
}

}  // namespace

TEST_CASE("AlignedBuffer is aligned, moves and may be empty", "[workspace]") {
    AlignedBuffer empty(0);
    CHECK(empty.data() == nullptr);
    AlignedBuffer buffer(100);
    std::byte* const data = buffer.data();
    CHECK(aligned(data));
    CHECK(buffer.size() == 100);
    AlignedBuffer moved(std::move(buffer));
    CHECK(moved.data() == data);
    CHECK(buffer.data() == nullptr);  // NOLINT: what a moved-from buffer holds is what is tested
    CHECK(buffer.size() == 0);
    empty = std::move(moved);
    CHECK(empty.data() == data);
    CHECK(empty.size() == 100);
}

TEST_CASE("large buffers begin at a huge page, hold every byte and move", "[workspace]") {
    constexpr std::size_t odd = 12345;
    for (const std::size_t bytes : {moe::huge_page_threshold - 1, moe::huge_page_threshold,
                                    moe::huge_page_threshold + 1, 3 * moe::huge_page, 3 * moe::huge_page + odd}) {
        INFO(bytes << " bytes");
        AlignedBuffer buffer(bytes);
        REQUIRE(buffer.size() == bytes);
        const auto address = reinterpret_cast<std::uintptr_t>(buffer.data());
        CHECK(address % (bytes < moe::huge_page_threshold ? buffer_alignment : moe::huge_page) == 0);
        for (std::size_t i = 0; i < bytes; ++i) {
            buffer.data()[i] = static_cast<std::byte>(i % 251);
        }
        const AlignedBuffer moved(std::move(buffer));
        CHECK(reinterpret_cast<std::uintptr_t>(moved.data()) == address);
        std::size_t wrong = 0;
        for (std::size_t i = 0; i < bytes; ++i) {
            wrong += moved.data()[i] != static_cast<std::byte>(i % 251) ? 1U : 0U;
        }
        CHECK(wrong == 0);
    }
    AlignedBuffer large(moe::huge_page_threshold);
    AlignedBuffer small(1);
    std::swap(large, small);  // each must be freed with the alignment it was made with
    CHECK(small.size() == moe::huge_page_threshold);
    CHECK(large.size() == 1);
}

#if defined(__linux__)
TEST_CASE("Linux has been asked for huge pages where a buffer is large", "[workspace]") {
    if (!std::filesystem::exists("/sys/kernel/mm/transparent_hugepage/enabled")) {
        SUCCEED("this kernel has no transparent huge pages");
        return;
    }
    const AlignedBuffer large(4 * moe::huge_page);
    CHECK(huge_pages_asked_for(large.data()));
    CHECK(huge_pages_asked_for(large.data() + large.size() - 1));
}
#endif

TEST_CASE("a dry run of an arena measures exactly what the same code takes", "[workspace]") {
    Arena measure;
    const std::size_t bytes = lay_out(measure);
    CHECK(bytes == 64 + 128 + 0 + 128);

    AlignedBuffer memory(bytes);
    Arena arena(memory.data(), bytes);
    CHECK(lay_out(arena) == bytes);

    Arena small(memory.data(), bytes - 1);
    const auto error = error_of([&] { lay_out(small); });
    CHECK(error.code == ErrorCode::capacity);
    CHECK_THAT(error.text, contains("320") && contains("319"));
}

TEST_CASE("pieces of an arena are aligned, of the size asked for, and do not overlap", "[workspace]") {
    AlignedBuffer memory(1024);
    Arena arena(memory.data(), memory.size());
    const std::span<char> a = arena.take<char>(65);
    const std::span<double> b = arena.take<double>(3);
    CHECK(a.size() == 65);
    CHECK(b.size() == 3);
    CHECK(aligned(a.data()));
    CHECK(aligned(b.data()));
    CHECK(reinterpret_cast<std::byte*>(b.data()) >= reinterpret_cast<std::byte*>(a.data() + a.size()));
    CHECK(Arena().take<char>(65).empty());
}

TEST_CASE("sizes beyond the address space are an overflow, not a small number", "[workspace]") {
    constexpr std::size_t most = std::numeric_limits<std::size_t>::max();
    Arena arena;
    CHECK(error_of([&] { (void)arena.take<double>(most / 8 + 1); }).code == ErrorCode::overflow);
    CHECK(error_of([&] { (void)arena.take<char>(most - 10); }).code == ErrorCode::overflow);
    CHECK(arena.used() == 0);
    (void)arena.take<char>(64);
    CHECK(error_of([&] { (void)arena.take<char>(most - 100); }).code == ErrorCode::overflow);
    CHECK(arena.used() == 64);
}

TEST_CASE("a workspace of its own grows and stays", "[workspace]") {
    Workspace workspace;
    CHECK(workspace.capacity() == 0);
    workspace.reserve(1000);
    CHECK(workspace.capacity() == 1000);
    const std::span<char> first = workspace.arena().take<char>(10);
    workspace.reserve(500);
    CHECK(workspace.capacity() == 1000);
    CHECK(workspace.arena().take<char>(10).data() == first.data());
    workspace.reserve(5000);
    CHECK(workspace.capacity() == 5000);
}

TEST_CASE("memory of the caller never grows; the error names what is needed and what is there", "[workspace]") {
    AlignedBuffer memory(640);
    Workspace workspace(std::span(memory.data(), memory.size()));
    CHECK(workspace.capacity() == 640);
    CHECK_NOTHROW(workspace.reserve(640));
    const auto error = error_of([&] { workspace.reserve(641); });
    CHECK(error.code == ErrorCode::capacity);
    CHECK_THAT(error.text, contains("641 bytes") && contains("holds 640"));
    CHECK(workspace.arena().take<char>(1).data() == static_cast<void*>(memory.data()));
}

TEST_CASE("unaligned memory of the caller is used from its first aligned byte", "[workspace]") {
    AlignedBuffer memory(640);
    for (std::size_t offset = 1; offset < buffer_alignment; ++offset) {
        Workspace workspace(std::span(memory.data() + offset, memory.size() - offset));
        CHECK(workspace.capacity() == 640 - buffer_alignment);
        CHECK(workspace.arena().take<char>(1).data() == static_cast<void*>(memory.data() + buffer_alignment));
    }
    Workspace tiny(std::span(memory.data() + 1, 63));
    CHECK(tiny.capacity() == 0);
    CHECK(error_of([&] { tiny.reserve(1); }).code == ErrorCode::capacity);
}

TEST_CASE("no memory at all from the caller is too small, not a licence to allocate", "[workspace]") {
    Workspace workspace{std::span<std::byte>{}};
    CHECK(workspace.capacity() == 0);
    CHECK_NOTHROW(workspace.reserve(0));
    CHECK(error_of([&] { workspace.reserve(64); }).code == ErrorCode::capacity);
}

}  // namespace moe_test::workspace_test
