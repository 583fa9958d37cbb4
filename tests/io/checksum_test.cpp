#include "moe/io/checksum.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <set>
#include <span>
#include <vector>

#include "io/support.hpp"
#include "support/catch.hpp"
#include "support/executors.hpp"

namespace moe_test::checksum_test {

namespace {

using moe::detail::checksum;
using moe::detail::checksum_chunk;
using moe::detail::chunk_checksum;
using moe_test::Bytes;

/// 7, 48, 89, ...: (41 i + 7) mod 251.
Bytes pattern(std::size_t size) {
    Bytes bytes(size);
    for (std::size_t i = 0; i < size; ++i) {
        bytes[i] = static_cast<std::byte>((41 * i + 7) % 251);
    }
    return bytes;
}

}  // namespace

TEST_CASE("checksums are those of an implementation in another language", "[io][checksum]") {
    CHECK(chunk_checksum(pattern(0), 0) == 0x467560979CE0A5E1ULL);
    CHECK(chunk_checksum(pattern(0), 1) == 0xCE7B632F07DC5F49ULL);
    CHECK(chunk_checksum(pattern(1), 0) == 0xB278EF1A83424D01ULL);
    CHECK(chunk_checksum(pattern(8), 0) == 0xC5113062DE5B80D8ULL);
    CHECK(chunk_checksum(pattern(31), 0) == 0x3BD0B768FD6100A5ULL);
    CHECK(chunk_checksum(pattern(32), 0) == 0xDBFADFF12AB97882ULL);
    CHECK(chunk_checksum(pattern(33), 0) == 0x19CF910901C298C7ULL);
    CHECK(chunk_checksum(pattern(100), 0) == 0x9760939C70207881ULL);
    CHECK(chunk_checksum(pattern(100), 12345) == 0xF73932B8EF860CB5ULL);
    CHECK(checksum(pattern(0), moe::SerialExecutor{}) == 0);
    CHECK(checksum(pattern(checksum_chunk), moe::SerialExecutor{}) == 0xD4A0C35889DFC0AEULL);
    CHECK(checksum(pattern(2 * checksum_chunk + 9), moe::SerialExecutor{}) == 0xBBF7651A88166742ULL);
}

TEST_CASE("a checksum is the same for any number of threads", "[io][checksum]") {
    for (const std::size_t size : {std::size_t{0}, std::size_t{5}, checksum_chunk, 5 * checksum_chunk + 3}) {
        const Bytes bytes = pattern(size);
        const std::uint64_t expected = checksum(bytes, moe::SerialExecutor{});
        CHECK(checksum(bytes, moe_test::ThreadExecutor(4)) == expected);
        CHECK(checksum(bytes, moe_test::ReversedExecutor(3)) == expected);
    }
}

TEST_CASE("every change of one bit, one byte or one word changes the checksum", "[io][checksum]") {
    for (const std::size_t size : {1U, 8U, 31U, 32U, 33U, 100U, 256U}) {
        Bytes bytes = pattern(size);
        std::set<std::uint64_t> seen{chunk_checksum(bytes, 3)};
        std::size_t changes = 1;
        for (std::size_t at = 0; at < size; ++at) {
            for (unsigned bit = 0; bit < 8; ++bit) {
                bytes[at] ^= static_cast<std::byte>(1U << bit);
                seen.insert(chunk_checksum(bytes, 3));
                bytes[at] ^= static_cast<std::byte>(1U << bit);
                ++changes;
            }
        }
        for (std::size_t at = 0; at + 8 <= size; at += 8) {
            const Bytes before = bytes;
            for (std::size_t i = at; i < at + 8; ++i) {
                bytes[i] ^= std::byte{0x80};
            }
            seen.insert(chunk_checksum(bytes, 3));
            bytes = before;
            ++changes;
        }
        CHECK(seen.size() == changes);
    }
}

TEST_CASE("two changes of the highest bit do not cancel out, nor do exchanged words, blocks and chunks",
          "[io][checksum]") {
    Bytes bytes = pattern(256);
    const std::uint64_t expected = chunk_checksum(bytes, 0);
    for (std::size_t a = 7; a < bytes.size(); a += 8) {
        for (std::size_t b = a + 8; b < bytes.size(); b += 8) {
            bytes[a] ^= std::byte{0x80};
            bytes[b] ^= std::byte{0x80};
            CHECK(chunk_checksum(bytes, 0) != expected);
            bytes[a] ^= std::byte{0x80};
            bytes[b] ^= std::byte{0x80};
        }
    }
    for (const std::size_t size : {8U, 32U, 64U}) {
        Bytes swapped = bytes;
        std::swap_ranges(swapped.begin(), swapped.begin() + static_cast<std::ptrdiff_t>(size),
                         swapped.begin() + static_cast<std::ptrdiff_t>(size));
        CHECK(chunk_checksum(swapped, 0) != expected);
    }
    CHECK(chunk_checksum(bytes, 1) != expected);

    Bytes large = pattern(2 * checksum_chunk);
    const std::uint64_t whole = checksum(large, moe::SerialExecutor{});
    std::swap_ranges(large.begin(), large.begin() + checksum_chunk, large.begin() + checksum_chunk);
    CHECK(checksum(large, moe::SerialExecutor{}) != whole);
}

TEST_CASE("zeros at the end count", "[io][checksum]") {
    std::set<std::uint64_t> seen;
    for (std::size_t size = 0; size < 200; ++size) {
        seen.insert(checksum(Bytes(size), moe::SerialExecutor{}));
    }
    CHECK(seen.size() == 200);
}

}  // namespace moe_test::checksum_test
