#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "../core/index.hpp"
#include "../experts/packed_experts.hpp"
#include "../parallel/executor.hpp"
#include "checksum.hpp"
#include "replaced_file.hpp"

namespace moe::inline MOE_ABI::detail {

/// The data of a file of packed experts in one order, out of memory that has them in the same or another: computed
/// piece by piece, because a second copy of all experts may be more than there is memory.
template <PackedFormat F>
class PackedBytes {
public:
    PackedBytes(std::span<const std::byte> memory, const PackedLayout<F>& held, PackedOrder order)
        : memory_(memory), held_(held), stored_(held.panels(), held.n_experts(), order) {}

    [[nodiscard]] std::size_t size() const noexcept { return stored_.bytes(); }

    /// What detail::checksum() is of all of it.
    [[nodiscard]] std::uint64_t checksum(const ExecutorRef& executor) const {
        if (as_held()) {
            return detail::checksum(memory_, executor);
        }
        std::atomic<std::uint64_t> total{0};
        TaskQueue queue;
        executor.run([&](std::size_t, std::size_t) {
            std::vector<std::byte> buffer(checksum_chunk);
            std::uint64_t mine = 0;
            for (std::size_t i = queue.take(); i * checksum_chunk < size(); i = queue.take()) {
                const std::span<std::byte> chunk = chunk_at(i, buffer);
                (void)copy(i * checksum_chunk, chunk);
                mine += chunk_checksum(chunk, i);
            }
            total += mine;
        });
        return total;
    }

    /// Behind what was written to `file`; long runs of nothing become holes.
    void write_to(ReplacedFile& file) const {
        if (as_held()) {
            return file.write(memory_);
        }
        std::vector<std::byte> buffer(checksum_chunk);
        for (std::size_t i = 0; i * checksum_chunk < size(); ++i) {
            const std::span<std::byte> chunk = chunk_at(i, buffer);
            if (copy(i * checksum_chunk, chunk)) {
                file.write(chunk);
            } else {
                file.skip(chunk.size());
            }
        }
    }

private:
    [[nodiscard]] bool as_held() const noexcept { return held_.order() == stored_.order(); }

    [[nodiscard]] std::span<std::byte> chunk_at(std::size_t i, std::span<std::byte> buffer) const {
        return buffer.first((std::min)(checksum_chunk, size() - i * checksum_chunk));
    }

    /// Bytes [at, at + target.size()); 0 between the experts. Whether any of them are an expert's.
    [[nodiscard]] bool copy(std::size_t at, std::span<std::byte> target) const {
        std::fill(target.begin(), target.end(), std::byte{0});
        bool any = false;
        const auto piece = [&](std::size_t from, std::size_t to, std::size_t bytes) {
            const std::size_t begin = (std::max)(at, to);
            const std::size_t end = (std::min)(at + target.size(), to + bytes);
            if (begin < end) {
                std::copy_n(memory_.data() + from + (begin - to), end - begin, target.data() + (begin - at));
                any = true;
            }
        };
        for (std::size_t e = 0; e < held_.n_experts(); ++e) {
            piece(held_.hidden_panel(e, 0), stored_.hidden_panel(e, 0), held_.weight_bytes());
            piece(held_.hidden_bias(e, 0), stored_.hidden_bias(e, 0), held_.bias_bytes());
        }
        return any;
    }

    std::span<const std::byte> memory_;
    const PackedLayout<F>& held_;
    PackedLayout<F> stored_;
};

}  // namespace moe::inline MOE_ABI::detail
