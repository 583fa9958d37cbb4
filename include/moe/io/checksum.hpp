#pragma once

#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

#include "../core/index.hpp"
#include "../parallel/executor.hpp"

namespace moe::inline MOE_ABI::detail {

/// A checksum of 64 bits against accidents: damaged disks, torn copies, stray writes. Anybody can forge it.
///
/// Four lanes of 64-bit words, each step that of XXH64 (Collet, github.com/Cyan4973/xxHash): four, because a step has
/// to wait about five cycles for the one before.
///
/// Every step is a bijection of the word and of the lane, so a change within one aligned word of 8 bytes is always
/// found; other changes, e.g. exchanged or zeroed pages, are missed with probability 2^-64. (A step of one
/// multiplication, like FNV-1a with a rotation, is not enough: a change of bit 63 of a word moves to one bit of the
/// lane, which the change of one bit of the next word takes back.)
inline constexpr std::uint64_t checksum_word_prime = 0xC2B2AE3D27D4EB4FULL;
inline constexpr std::uint64_t checksum_lane_prime = 0x9E3779B185EBCA87ULL;

/// Bytes summed at once: one task. Part of the file format.
inline constexpr std::size_t checksum_chunk = std::size_t{1} << 20U;

[[nodiscard]] constexpr std::uint64_t checksum_step(std::uint64_t lane, std::uint64_t word) noexcept {
    return std::rotl(lane + word * checksum_word_prime, 31) * checksum_lane_prime;
}

/// The little-endian word at `source`.
[[nodiscard]] inline std::uint64_t load_word(const std::byte* source) noexcept {
    std::uint64_t word = 0;
    if constexpr (std::endian::native == std::endian::little) {
        std::memcpy(&word, source, sizeof word);
    } else {
        for (unsigned i = 0; i < sizeof word; ++i) {
            word |= std::uint64_t{static_cast<std::uint8_t>(source[i])} << (8 * i);
        }
    }
    return word;
}

/// Of one chunk, the one of that number. A last block of less than 32 bytes counts as if zeros followed.
[[nodiscard]] inline std::uint64_t chunk_checksum(std::span<const std::byte> bytes, std::uint64_t number) noexcept {
    constexpr std::size_t n_lanes = 4;
    constexpr std::size_t block_bytes = n_lanes * sizeof(std::uint64_t);
    std::array<std::uint64_t, n_lanes> lane{};
    for (std::size_t i = 0; i < n_lanes; ++i) {
        lane[i] = checksum_step(number, i);
    }
    const auto add = [&lane](const std::byte* block) {
        for (std::size_t i = 0; i < n_lanes; ++i) {
            lane[i] = checksum_step(lane[i], load_word(block + i * sizeof(std::uint64_t)));
        }
    };
    std::size_t at = 0;
    for (; at + block_bytes <= bytes.size(); at += block_bytes) {
        add(bytes.data() + at);
    }
    if (at < bytes.size()) {
        std::array<std::byte, block_bytes> last{};
        std::memcpy(last.data(), bytes.data() + at, bytes.size() - at);
        add(last.data());
    }
    std::uint64_t sum = checksum_step(number, bytes.size());
    for (const std::uint64_t each : lane) {
        sum = checksum_step(sum, each);
    }
    sum = (sum ^ (sum >> 33U)) * checksum_word_prime;  // the last step alone would leave the low bits weak
    return sum ^ (sum >> 29U);
}

/// The sum of all chunks, each of which depends on its number: in any order, on all workers of `executor`.
[[nodiscard]] inline std::uint64_t checksum(std::span<const std::byte> bytes, const ExecutorRef& executor) {
    const std::size_t n_chunks = divide_up(bytes.size(), checksum_chunk);
    std::atomic<std::uint64_t> total{0};
    TaskQueue queue;
    executor.run([&](std::size_t, std::size_t) {
        std::uint64_t mine = 0;
        for (std::size_t i = queue.take(); i < n_chunks; i = queue.take()) {
            const auto rest = bytes.subspan(i * checksum_chunk);
            mine += chunk_checksum(rest.first((std::min)(checksum_chunk, rest.size())), i);
        }
        total += mine;
    });
    return total;
}

}  // namespace moe::inline MOE_ABI::detail
