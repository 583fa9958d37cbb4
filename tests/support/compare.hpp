#pragma once

#include <cmath>
#include <cstddef>
#include <cstring>
#include <limits>
#include <span>
#include <sstream>
#include <string>
#include <type_traits>

/// Comparators of the tests. A NaN, an infinity or a difference in size fails every one of them, on either side.
namespace moe_test {

/// Any contiguous range: vectors, arrays, spans.
template <class Range>
auto values_of(const Range& range) {
    return std::span(std::data(range), std::size(range));
}

template <class Range>
bool all_finite(const Range& range) {
    for (const auto value : values_of(range)) {
        if (!std::isfinite(value)) {
            return false;
        }
    }
    return true;
}

/// Normalised mean squared error, sum (a - ref)^2 / sum ref^2. NaN, which no `<=` lets pass, if the sizes differ or a
/// value is not finite; infinity if ref is all zero and a is not; 0 for two empty ranges.
template <class A, class B>
double nmse(const A& a, const B& ref) {
    if (std::size(a) != std::size(ref) || !all_finite(a) || !all_finite(ref)) {
        return std::numeric_limits<double>::quiet_NaN();
    }
    long double error = 0;
    long double power = 0;
    for (std::size_t i = 0; i < std::size(a); ++i) {
        const auto expected = static_cast<long double>(values_of(ref)[i]);
        const long double difference = static_cast<long double>(values_of(a)[i]) - expected;
        error += difference * difference;
        power += expected * expected;
    }
    return error == 0 ? 0.0 : static_cast<double>(error / power);
}

enum class NonFinite { fail, allow };

/// Whether two ranges of one type have the same bits: 0 and -0 differ, NaNs of the same bits are the same. Only
/// NonFinite::allow lets NaN and infinity pass, for tests that put them there.
template <class A, class B>
bool same_bits(const A& a, const B& b, NonFinite non_finite = NonFinite::fail) {
    const auto left = values_of(a);
    const auto right = values_of(b);
    static_assert(std::is_same_v<std::remove_const_t<typename decltype(left)::element_type>,
                                 std::remove_const_t<typename decltype(right)::element_type>>);
    if (left.size() != right.size() || (non_finite == NonFinite::fail && !all_finite(a))) {
        return false;
    }
    return left.empty() || std::memcmp(left.data(), right.data(), left.size_bytes()) == 0;
}

/// Largest error of a sum of k terms in T, in any order: gamma_k * magnitude, with gamma_k = k u / (1 - k u), u half of
/// epsilon, and magnitude the sum of the absolute terms (Higham, "Accuracy and stability of numerical
/// algorithms", 3.1). For a dot product of n factors k is n; each further operation on the result adds one.
template <class T>
double rounding_bound(std::size_t k, double magnitude) {
    const double ku = static_cast<double>(k) * static_cast<double>(std::numeric_limits<T>::epsilon()) / 2;
    return ku < 1 ? ku / (1 - ku) * magnitude : std::numeric_limits<double>::infinity();
}

/// Empty if |a - ref| <= bound for every element, otherwise what the first difference is: `CHECK(difference(...) ==
/// "")`.
template <class A, class B>
std::string difference(const A& a, const B& ref, double bound) {
    std::ostringstream text;
    text.precision(17);
    if (std::size(a) != std::size(ref)) {
        text << std::size(a) << " values instead of " << std::size(ref);
        return text.str();
    }
    for (std::size_t i = 0; i < std::size(a); ++i) {
        const auto value = static_cast<double>(values_of(a)[i]);
        const auto expected = static_cast<double>(values_of(ref)[i]);
        const bool close = std::abs(value - expected) <= bound;
        if (!close || !std::isfinite(value) || !std::isfinite(expected)) {
            text << "element " << i << " is " << value << " instead of " << expected << ", allowed is " << bound;
            return text.str();
        }
    }
    return {};
}

}  // namespace moe_test
