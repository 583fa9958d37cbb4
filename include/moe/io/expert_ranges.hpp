#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "../core/borrowed.hpp"
#include "../core/error.hpp"
#include "../core/index.hpp"

namespace moe::inline MOE_ABI {

/// Where in memory each expert of a bank lies: one range of a file whose experts lie apart, three or more of a
/// checkpoint. PackedFile and Checkpoint make it of what they map; for a file of your own, add() them.
class ExpertRanges {
public:
    explicit ExpertRanges(std::size_t n_experts) : ranges_(n_experts) {}

    /// These bytes are expert e's, too; they must outlive who uses them. Throws Error(range).
    void add(std::size_t e, Borrowed<const std::byte> bytes) {
        ensure(e < ranges_.size(), ErrorCode::range, "ExpertRanges: expert ", e, " of ", ranges_.size());
        auto& ranges = ranges_[e];
        if (!ranges.empty() && ranges.back().data() + ranges.back().size() == bytes.data()) {
            ranges.back() = {ranges.back().data(), ranges.back().size() + bytes.size()};
        } else if (!bytes.empty()) {
            ranges.emplace_back(bytes);
        }
    }

    /// Those of all experts, one behind the other, as many each. Throws Error(shape).
    void add_stacked(Borrowed<const std::byte> bytes) {
        ensure(!ranges_.empty() && bytes.size() % ranges_.size() == 0, ErrorCode::shape, "ExpertRanges: ", bytes.size(),
               " bytes are not as many for each of ", ranges_.size(), " experts");
        const std::size_t each = bytes.size() / ranges_.size();
        for (std::size_t e = 0; e < ranges_.size(); ++e) {
            add(e, std::span<const std::byte>(bytes).subspan(e * each, each));
        }
    }

    [[nodiscard]] std::size_t n_experts() const noexcept { return ranges_.size(); }
    /// Throws Error(range).
    [[nodiscard]] std::span<const std::span<const std::byte>> of(std::size_t e) const {
        ensure(e < ranges_.size(), ErrorCode::range, "ExpertRanges: expert ", e, " of ", ranges_.size());
        return ranges_[e];
    }
    /// Bytes of one expert. Throws Error(range).
    [[nodiscard]] std::size_t bytes(std::size_t e) const {
        std::size_t sum = 0;
        for (const auto& range : of(e)) {
            sum += range.size();
        }
        return sum;
    }

private:
    std::vector<std::vector<std::span<const std::byte>>> ranges_;
};

}  // namespace moe::inline MOE_ABI
