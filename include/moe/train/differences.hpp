#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <utility>
#include <vector>

#include "../core/function_ref.hpp"
#include "../core/random.hpp"
#include "parts/gradient_check.hpp"
#include "parts/owned_gradients.hpp"
#include "parts/tape.hpp"

/// Central differences of a forward pass beside the gradients that a backward pass gave: what check_gradients() does,
/// whatever the layer.
namespace moe::inline MOE_ABI::detail {

/// Values that a forward pass reads, and their gradients.
struct CheckedValues {
    ParameterGroup group;
    std::span<double> values;
    std::span<const double> gradients;
    double epsilon = 0;  ///< of what is computed with them
    double step = 0;     ///< times max(1, |value|)
    double tolerance = 0;
};

/// Takes the differences, of one kind of values after the other. Moves the values and puts them back.
class Differences {
public:
    /// Fills a tape and y.
    using Forward = FunctionRef<void(Tape<double>&, std::vector<double>&)>;

    /// The loss is the sum of y times `loss`; `base` recorded the pass that the gradients are of.
    Differences(Forward forward, std::span<const double> loss, const Tape<double>& base, std::uint64_t seed)
        : forward_(forward), loss_(loss), base_(base), seed_(seed) {}

    /// Compares the gradients of `n_directions` random directions and of `n_samples` coordinates.
    [[nodiscard]] GradientCheck::Group compare(const CheckedValues& of, std::size_t n_samples,
                                               std::size_t n_directions);

private:
    /// Along one direction.
    struct Slope {
        double gradient = 0;
        double difference = 0;
        double noise = 0;  ///< of the difference
        std::size_t at = 0;
        bool taken = false;

        [[nodiscard]] double distance() const { return std::abs(gradient - difference); }
        /// The distance, relative to a gradient of the size `largest`; that of what rounding allows is `tolerance` at
        /// most. NaN stays.
        [[nodiscard]] double error(double largest, double tolerance) const {
            const double allowed = std::isfinite(noise) ? noise / tolerance : 0;
            return distance() == 0 ? 0 : distance() / (std::max)(largest, allowed);
        }
        [[nodiscard]] double size() const { return (std::max)(std::abs(gradient), std::abs(difference)); }
    };
    /// Coordinates [first, first + count) together, each with the sign that `stream` gives it.
    struct Direction {
        std::size_t first;
        std::size_t count;
        std::uint64_t stream;
    };

    static constexpr int most_halvings = 10;

    /// NaN is.
    [[nodiscard]] static bool further(double a, double b) { return !(a <= b); }

    [[nodiscard]] Slope slope(const CheckedValues& of, const Direction& direction);
    [[nodiscard]] Slope slope(const CheckedValues& of, const Direction& direction, double step);
    [[nodiscard]] std::size_t coordinate(const CheckedValues& of, Direction direction);
    [[nodiscard]] bool same_routing() const;
    [[nodiscard]] double sign(const Direction& direction, std::size_t i) const {
        return (random_bits(random_stream(seed_, direction.stream), i) & 1U) != 0 ? 1 : -1;
    }

    Forward forward_;
    std::span<const double> loss_;
    const Tape<double>& base_;
    std::uint64_t seed_;
    std::uint64_t streams_ = 0;
    Tape<double> tape_;
    std::vector<double> plus_;
    std::vector<double> minus_;
    std::vector<double> saved_;
    std::vector<double> moved_;
};

/// Of the tape against that of the base: who went where, who was dropped.
inline bool Differences::same_routing() const {
    const PlanView<double> a = base_.plan();
    const PlanView<double> b = tape_.plan();
    const MatrixView<const ExpertId> c = base_.choices();
    const MatrixView<const ExpertId> d = tape_.choices();
    bool same = std::ranges::equal(a.experts, b.experts) && std::ranges::equal(a.token_offsets, b.token_offsets) &&
                c.rows() == d.rows() && c.cols() == d.cols();
    for (std::size_t t = 0; t < c.rows() && same; ++t) {
        same = std::ranges::equal(c.row_span(t), d.row_span(t));
    }
    return same;
}

/// With the step that is asked for, or its half, and so on, if the routing changes within it.
inline Differences::Slope Differences::slope(const CheckedValues& of, const Direction& direction, double step) {
    const std::span<double> values = of.values.subspan(direction.first, direction.count);
    saved_.assign(values.begin(), values.end());
    moved_.resize(values.size());
    for (int halvings = 0; halvings <= most_halvings; ++halvings, step /= 2) {
        const auto run = [&](double by, std::vector<double>& y) {
            for (std::size_t i = 0; i < values.size(); ++i) {
                const double size = (std::max)(1.0, std::abs(saved_[i]));
                values[i] = saved_[i] + by * size * sign(direction, direction.first + i);
            }
            forward_(tape_, y);
        };
        run(step, plus_);
        bool same = same_routing();
        std::copy(values.begin(), values.end(), moved_.begin());
        if (same) {
            run(-step, minus_);
            same = same_routing();
        }
        for (std::size_t i = 0; i < values.size(); ++i) {
            moved_[i] -= values[i];  // what was rounded is what was moved
            values[i] = saved_[i];
        }
        if (!same) {
            continue;
        }
        Slope result;
        result.at = direction.first;
        result.taken = true;
        double variance = 0;  // of the difference, in roundings
        for (std::size_t i = 0; i < loss_.size(); ++i) {
            // a value that stays was changed by less than its last digit, if at all
            const double roundings = plus_[i] == minus_[i] ? 1 : 16;
            const double size = loss_[i] * roundings * (std::max)(std::abs(plus_[i]), std::abs(minus_[i]));
            result.difference += loss_[i] * (plus_[i] - minus_[i]);
            variance += size * size;
        }
        for (std::size_t i = 0; i < values.size(); ++i) {
            result.gradient += of.gradients[direction.first + i] * moved_[i];
        }
        result.difference /= 2 * step;
        result.gradient /= 2 * step;
        result.noise = of.epsilon * std::sqrt(variance) / (2 * step);
        return result;
    }
    return {};
}

/// Where they differ, the step may hold a kink: of a ReLU, of a clamp. A smaller one does not, most likely, and they
/// agree; a mistake stays.
inline Differences::Slope Differences::slope(const CheckedValues& of, const Direction& direction) {
    constexpr int most_steps = 3;
    constexpr double smaller = 1.0 / 16;
    constexpr double agrees = 0.1;
    Slope best = slope(of, direction, of.step);
    double step = of.step;
    for (int i = 1; i < most_steps && best.taken && further(best.error(best.size(), of.tolerance), of.tolerance); ++i) {
        step *= smaller;
        const Slope again = slope(of, direction, step);
        if (again.taken && again.distance() < agrees * best.distance()) {
            best = again;
        }
    }
    return best;
}

/// One of the coordinates that make a direction wrong, by halving it.
inline std::size_t Differences::coordinate(const CheckedValues& of, Direction direction) {
    while (direction.count > 1) {
        const std::size_t half = direction.count / 2;
        const Direction low{direction.first, half, direction.stream};
        const Direction high{direction.first + half, direction.count - half, direction.stream};
        const auto distance = [&](const Direction& part) {
            const Slope found = slope(of, part);
            return found.taken ? found.distance() : 0;
        };
        direction = further(distance(high), distance(low)) ? high : low;
    }
    return direction.first;
}

inline GradientCheck::Group Differences::compare(const CheckedValues& of, std::size_t n_samples,
                                                 std::size_t n_directions) {
    GradientCheck::Group result;
    result.name = of.group.name;
    result.tolerance = of.tolerance;
    const std::size_t size = of.values.size();
    // The greatest error of `slopes`, relative to the greatest of them, and which it is.
    const auto judge = [&](const std::vector<Slope>& slopes) {
        double largest = 0;
        for (const Slope& each : slopes) {
            largest = (std::max)(largest, each.size());
        }
        std::pair<double, std::size_t> worst{0, 0};
        for (std::size_t i = 0; i < slopes.size(); ++i) {
            const double error = slopes[i].error(largest, of.tolerance);
            worst = i == 0 || further(error, worst.first) ? std::pair(error, i) : worst;
        }
        return worst;
    };
    const auto add = [&](std::vector<Slope>& slopes, const Direction& direction) {
        const Slope found = slope(of, direction);
        result.checked += found.taken;
        result.skipped += !found.taken;
        if (found.taken) {
            slopes.push_back(found);
        }
    };
    std::vector<Slope> directions;
    const std::uint64_t first_stream = streams_;
    for (std::size_t i = 0; i < n_directions && size > 1; ++i) {
        add(directions, {0, size, streams_++});
    }
    std::vector<Slope> samples;
    const std::uint64_t draws = random_stream(seed_, streams_++);
    for (std::size_t i = 0; i < (std::min)(n_samples, size); ++i) {
        const std::size_t at = size <= n_samples ? i : random_bits(draws, i) % size;
        add(samples, {at, 1, streams_});
    }
    const auto [along, which] = judge(directions);
    if (further(along, of.tolerance)) {
        add(samples, {coordinate(of, {0, size, first_stream + which}), 1, streams_});
    }
    const auto [error, worst] = judge(samples);
    result.error = further(along, error) ? along : error;
    if (!samples.empty()) {
        result.worst = of.group.at(samples[worst].at);
        result.gradient = samples[worst].gradient;
        result.difference = samples[worst].difference;
    }
    for (const std::vector<Slope>* slopes : {&directions, &samples}) {
        for (const Slope& each : *slopes) {
            result.largest = further(each.size(), result.largest) ? each.size() : result.largest;
        }
    }
    return result;
}

}  // namespace moe::inline MOE_ABI::detail
