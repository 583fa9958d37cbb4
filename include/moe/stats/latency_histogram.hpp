#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <chrono>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <limits>

#include "../core/error.hpp"

namespace moe::inline MOE_ABI {

/// How long something took, many times: counts in 1,152 buckets, 9 KB and no allocation. Below 32 ns buckets hold one
/// nanosecond, above it each power of two is cut into 32 (as in HdrHistogram), so a quantile is within 1/64 = 1.6 % of
/// a time that was measured; count, mean, min and max are exact. Times beyond 2^40 ns (18 minutes) fall into the last
/// bucket.
class LatencyHistogram {
public:
    using Count = std::uint64_t;

    /// O(1). A negative time counts as 0.
    void add(std::chrono::nanoseconds time) noexcept {
        const std::uint64_t ns = time.count() > 0 ? static_cast<std::uint64_t>(time.count()) : 0;
        ++counts_[bucket_of(ns)];
        ++count_;
        sum_ += static_cast<double>(ns);
        min_ = (std::min)(min_, ns);
        max_ = (std::max)(max_, ns);
    }

    [[nodiscard]] Count count() const noexcept { return count_; }

    // In seconds; NaN where nothing was timed.

    [[nodiscard]] double total() const noexcept { return sum_ * second; }
    [[nodiscard]] double mean() const noexcept { return sum_ / static_cast<double>(count_) * second; }
    [[nodiscard]] double shortest() const noexcept {
        return count_ > 0 ? static_cast<double>(min_) * second : undefined;
    }
    [[nodiscard]] double longest() const noexcept {
        return count_ > 0 ? static_cast<double>(max_) * second : undefined;
    }

    /// The time that a share `q` of all times does not exceed, by nearest rank: the ceil(q n)-th smallest of n, known
    /// to the width of a bucket. quantile(0.5) is p50, quantile(0.99) p99. Throws Error(range) unless 0 <= q <= 1.
    [[nodiscard]] double quantile(double q) const {
        ensure(q >= 0 && q <= 1, ErrorCode::range, "LatencyHistogram: quantile ", q, " lies outside 0..1");
        if (count_ == 0) {
            return undefined;
        }
        const auto rank = (std::max)(Count{1}, static_cast<Count>(std::ceil(q * static_cast<double>(count_))));
        Count below = 0;
        std::size_t bucket = 0;
        while (bucket + 1 < n_buckets && below + counts_[bucket] < rank) {
            below += counts_[bucket++];
        }
        return std::clamp(middle_of(bucket), static_cast<double>(min_), static_cast<double>(max_)) * second;
    }

    /// Adds the times of another.
    void merge(const LatencyHistogram& other) noexcept {
        std::transform(counts_.begin(), counts_.end(), other.counts_.begin(), counts_.begin(), std::plus<>{});
        count_ += other.count_;
        sum_ += other.sum_;
        min_ = (std::min)(min_, other.min_);
        max_ = (std::max)(max_, other.max_);
    }

    void reset() noexcept { *this = {}; }

private:
    static constexpr double second = 1e-9;  // of a nanosecond
    static constexpr double undefined = std::numeric_limits<double>::quiet_NaN();
    static constexpr unsigned step_bits = 5;
    static constexpr std::uint64_t steps = std::uint64_t{1} << step_bits;
    static constexpr unsigned max_bits = 40;
    static constexpr std::size_t n_buckets = (max_bits - step_bits + 1) * steps;

    /// The 5 bits behind the leading one, and how far they are from the bottom.
    [[nodiscard]] static std::size_t bucket_of(std::uint64_t ns) noexcept {
        if (ns < steps) {
            return ns;
        }
        const unsigned shift = static_cast<unsigned>(std::bit_width(ns)) - step_bits - 1;
        return std::min<std::size_t>((shift + 1) * steps + ((ns >> shift) - steps), n_buckets - 1);
    }

    [[nodiscard]] static double middle_of(std::size_t bucket) noexcept {
        if (bucket < steps) {
            return static_cast<double>(bucket);
        }
        const auto shift = static_cast<int>(bucket / steps) - 1;
        const auto first = static_cast<double>(bucket % steps + steps);
        return std::ldexp(first, shift) + (std::ldexp(1.0, shift) - 1) / 2;
    }

    std::array<Count, n_buckets> counts_{};
    Count count_ = 0;
    double sum_ = 0;
    std::uint64_t min_ = (std::numeric_limits<std::uint64_t>::max)();
    std::uint64_t max_ = 0;
};

}  // namespace moe::inline MOE_ABI
