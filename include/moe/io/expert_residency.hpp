#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <utility>
#include <vector>

#include "../core/error.hpp"
#include "../layer/parts/residency.hpp"
#include "expert_ranges.hpp"
#include "pages.hpp"

namespace moe::inline MOE_ABI {

/// How an ExpertResidency uses memory.
struct ExpertResidencyOptions {
    /// Bytes of the experts of one wave; two waves, the one that is computed and the one that is read, should fit into
    /// the memory that files may have. All there are: a batch is one wave.
    std::size_t wave_bytes = (std::numeric_limits<std::size_t>::max)();
    /// Batches without a token after which an expert is let go; 0 for never.
    std::uint64_t cool_after = 64;
    /// Whether the system is asked what is in memory. If not, all experts are read before they are used, which costs
    /// little where they are there: for files that the process neither owns nor may write, of which Linux does not
    /// tell.
    bool look = true;
};

/// More experts than memory: reads those that a batch chose from the file they are mapped from, ahead of their use, on
/// the workers of the call. Reading by touching waits for one piece after the other; this asks for all at once.
///
///     const auto file = moe::PackedFile::open(path, moe::Verify::header);
///     moe::ExpertResidency residency(file.expert_ranges());
///     layer.forward(x, y, workspace, executor, {.residency = &residency});
///
/// It gives advice and keeps nothing: what stays in memory is the system's choice, which knows what else needs it. What
/// was not wanted for some batches is let go, so that it leaves before what is in use; nothing is ever thrown out.
/// Allocates only when it is made. One for each layer, and for one call at a time.
class ExpertResidency : public Residency {
public:
    /// `ranges` must stay mapped. `pages`, which must outlive this, is what the system is asked through.
    explicit ExpertResidency(ExpertRanges ranges, ExpertResidencyOptions options = {}, const Pages* pages = nullptr)
        : ranges_(std::move(ranges)),
          options_(options),
          pages_(pages),
          page_bytes_(this->pages().page_bytes()),
          last_used_(ranges_.n_experts()) {}

    ExpertResidency(const ExpertResidency&) = delete;
    ExpertResidency& operator=(const ExpertResidency&) = delete;
    ~ExpertResidency() override = default;

    /// Throws Error(range) for an expert that there is not.
    void want(std::span<WantedExpert> experts) override {
        ++batch_;
        std::size_t wave = 0;
        bool first_wave = true;
        for (WantedExpert& wanted : experts) {
            const std::size_t e = checked(wanted.expert);
            last_used_[e] = batch_;
            const std::size_t bytes = ranges_.bytes(e);
            wanted.begins_wave = bytes > options_.wave_bytes - (std::min)(wave, options_.wave_bytes);
            first_wave = first_wave && (wave == 0 || !wanted.begins_wave);
            wave = wanted.begins_wave ? bytes : wave + bytes;
            // what is there now may have made room when a later wave begins
            wanted.there = first_wave && is_there(e);
        }
        for (std::size_t e = 0; e < last_used_.size(); ++e) {
            if (last_used_[e] != 0 && options_.cool_after != 0 && batch_ - last_used_[e] == options_.cool_after) {
                for (const std::span<const std::byte> range : ranges_.of(e)) {
                    if (const auto own = pages_within(range, page_bytes_); !own.empty()) {
                        pages().let_go(own);
                    }
                }
            }
        }
    }

    void ask(ExpertId expert) override {
        for (const std::span<const std::byte> range : ranges_.of(checked(expert))) {
            if (const auto whole = pages_of(range, page_bytes_); is_missing(whole)) {
                pages().start_reading(whole);
            }
        }
    }

    /// Throws Error(file) where the file cannot be read: it was shortened, or its device fails. Without this it is the
    /// end of the process.
    void bring(ExpertId expert) override {
        const std::size_t e = checked(expert);
        for (const std::span<const std::byte> range : ranges_.of(e)) {
            const auto whole = pages_of(range, page_bytes_);
            const bool failed = is_missing(whole) && pages().read(whole) == Pages::Read::failed;
            ensure(!failed, ErrorCode::file, "ExpertResidency: ", range.size(), " bytes of expert ", e,
                   " cannot be read from their file: it was shortened, or its device fails");
        }
    }

    [[nodiscard]] const ExpertRanges& ranges() const noexcept { return ranges_; }

private:
    [[nodiscard]] const Pages& pages() const noexcept { return pages_ == nullptr ? system_ : *pages_; }

    [[nodiscard]] std::size_t checked(ExpertId expert) const {
        ensure(expert >= 0 && static_cast<std::size_t>(expert) < ranges_.n_experts(), ErrorCode::range,
               "ExpertResidency: the layer has an expert ", expert, ", the ranges are those of ", ranges_.n_experts());
        return static_cast<std::size_t>(expert);
    }

    /// To look costs less than to ask for what is there: of an expert some matrices, or all when its wave begins.
    [[nodiscard]] bool is_missing(std::span<const std::byte> whole_pages) const {
        return !options_.look || !pages().resident(whole_pages);
    }

    [[nodiscard]] bool is_there(std::size_t e) const {
        for (const std::span<const std::byte> range : ranges_.of(e)) {
            if (is_missing(pages_of(range, page_bytes_))) {
                return false;
            }
        }
        return true;
    }

    ExpertRanges ranges_;
    ExpertResidencyOptions options_;
    Pages system_;
    const Pages* pages_;
    std::size_t page_bytes_;
    std::uint64_t batch_ = 0;
    std::vector<std::uint64_t> last_used_;  ///< the batch, counted from 1
};

}  // namespace moe::inline MOE_ABI
