#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <sstream>
#include <string>
#include <vector>

#include <moe/core/random.hpp>
#include <moe/reference/routing.hpp>

namespace moe_test {

/// Numbers of one stream in double, drawn one after the other.
class Numbers {
public:
    explicit Numbers(std::uint64_t seed) : seed_(seed) {}

    double normal() { return moe::random_normal(seed_, counter_++); }
    std::size_t size(std::size_t low, std::size_t high) {
        return low + static_cast<std::size_t>(moe::random_bits(seed_, counter_++) % (high - low + 1));
    }
    bool one_in(std::size_t n) { return size(1, n) == 1; }
    bool coin() { return one_in(2); }
    template <class T>
    T one_of(const std::vector<T>& values) {
        return values[size(0, values.size() - 1)];
    }
    moe::reference::Vector normals(std::size_t count, double scale = 1) {
        moe::reference::Vector values(count);
        for (double& value : values) {
            value = scale * normal();
        }
        return values;
    }

private:
    std::uint64_t seed_;
    std::uint64_t counter_ = 0;
};

/// Gradients held against central differences. Where the two differ it looks whether there is a corner, or another
/// choice of experts, within the step: the differences of the two sides then disagree too. Such a place is skipped and
/// counted; `problem` says so when there are many, or too few were held.
class Differences {
public:
    explicit Differences(std::uint64_t seed) : draw_(seed) {}

    /// `f()` reads `v`, which is changed for its time; `gradient` is that of f by v. One direction across all elements,
    /// and one element by itself.
    template <class F>
    void hold(const std::string& what, moe::reference::Vector& v, const moe::reference::Vector& gradient, const F& f) {
        if (v.size() != gradient.size()) {
            complain(what, "the gradient has another size");
            return;
        }
        if (v.empty()) {
            return;
        }
        along(what, v, gradient, draw_.normals(v.size()), f);
        moe::reference::Vector single(v.size(), 0.0);
        const std::size_t i = draw_.size(0, v.size() - 1);
        single[i] = 1;
        along(what + " [" + std::to_string(i) + "]", v, gradient, single, f);
    }

    /// The same for a single number.
    template <class F>
    void hold(const std::string& what, double& v, double gradient, const F& f) {
        moe::reference::Vector one{v};
        along(what, one, {gradient}, {1.0}, [&] {
            v = one[0];
            return f();
        });
        v = one[0];
    }

    /// Empty if at least `least` comparisons were made, all of them met, and at most one in 50 was skipped.
    [[nodiscard]] std::string problem(std::size_t least) const {
        std::ostringstream text;
        if (!first_.empty()) {
            text << wrong_ << " wrong of " << held_ << ", first " << first_;
        } else if (held_ < least || 50 * skipped_ > held_) {
            text << held_ << " held instead of " << least << ", " << skipped_ << " skipped";
        }
        return text.str();
    }

private:
    template <class F>
    void along(const std::string& what, moe::reference::Vector& v, const moe::reference::Vector& gradient,
               const moe::reference::Vector& direction, const F& f) {
        const moe::reference::Vector saved = v;
        double greatest = 1;
        double expected = 0;
        double magnitude = 0;
        for (std::size_t i = 0; i < v.size(); ++i) {
            greatest = std::max(greatest, std::abs(v[i]));
            expected += gradient[i] * direction[i];
            magnitude += std::abs(gradient[i] * direction[i]);
        }
        const double h = 1e-6 * greatest;
        const auto at = [&](double step) {
            for (std::size_t i = 0; i < v.size(); ++i) {
                v[i] = saved[i] + step * direction[i];
            }
            return f();
        };
        const double above = at(h);
        const double below = at(-h);
        const double here = at(0);
        v = saved;
        const double central = (above - below) / (2 * h);
        const double size = std::max(magnitude, std::abs(central));
        const double noise =
            16 * std::numeric_limits<double>::epsilon() * std::max(1.0, std::abs(here)) / h;  // of the rounding of f
        const double sides = std::abs((above - here) - (here - below)) / h;
        ++held_;
        if (std::abs(central - expected) <= 1e-6 * size + noise) {
            return;
        }
        if (sides > 2e-5 * size + 10 * noise) {
            ++skipped_;
            return;
        }
        std::ostringstream text;
        text.precision(12);
        text << expected << " instead of " << central;
        complain(what, text.str());
    }

    void complain(const std::string& what, const std::string& how) {
        ++wrong_;
        if (first_.empty()) {
            first_ = what + ": " + how;
        }
    }

    Numbers draw_;
    std::size_t held_ = 0;
    std::size_t skipped_ = 0;
    std::size_t wrong_ = 0;
    std::string first_;
};

}  // namespace moe_test
