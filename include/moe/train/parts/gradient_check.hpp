#pragma once

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <cstddef>
#include <string>
#include <vector>

#include "../../config.hpp"

namespace moe::inline MOE_ABI {

/// What check_gradients() found.
struct GradientCheck {
    /// One kind of parameters, or x.
    struct Group {
        std::string name;         ///< as in ParameterGroup; "x", "router_input"
        double error = 0;         ///< greatest |gradient - difference|, relative to the greatest gradient of its kind
        double tolerance = 0;     ///< what it may be
        std::size_t checked = 0;  ///< differences taken
        std::size_t skipped = 0;  ///< that could not be: the routing changed within every step that was tried
        double largest = 0;       ///< gradient among the coordinates seen, or difference; 0: nothing is learnt here
        std::string worst;        ///< the coordinate that is furthest off, "experts.down[3](5, 2)"
        double gradient = 0;      ///< there
        double difference = 0;    ///< there

        /// False for NaN, and where everything was skipped.
        [[nodiscard]] bool passed(double most) const { return checked > 0 && error <= most; }
        [[nodiscard]] bool passed() const { return passed(tolerance); }
    };
    std::vector<Group> groups;

    /// Whether each group is within its tolerance, or within `most`.
    [[nodiscard]] bool passed() const {
        return std::all_of(groups.begin(), groups.end(), [](const Group& group) { return group.passed(); });
    }
    [[nodiscard]] bool passed(double most) const {
        return std::all_of(groups.begin(), groups.end(), [&](const Group& group) { return group.passed(most); });
    }

    /// The group that is furthest off, NaN first; of no layer it has no name.
    [[nodiscard]] Group worst() const {
        const auto further = [](const Group& a, const Group& b) {
            return std::isnan(b.error) ? !std::isnan(a.error) : a.error < b.error;
        };
        return groups.empty() ? Group{} : *std::max_element(groups.begin(), groups.end(), further);
    }

    /// Differences that could not be taken, in all.
    [[nodiscard]] std::size_t skipped() const {
        std::size_t sum = 0;
        for (const Group& group : groups) {
            sum += group.skipped;
        }
        return sum;
    }

    /// A line a group, for people.
    [[nodiscard]] std::string text() const;
};

namespace detail {

[[nodiscard]] inline std::string short_number(double value) {
    std::array<char, 32> digits{};
    char* const end = digits.data() + digits.size();
    return {digits.data(), std::to_chars(digits.data(), end, value, std::chars_format::general, 3).ptr};
}

}  // namespace detail

inline std::string GradientCheck::text() const {
    std::size_t width = 0;
    for (const Group& group : groups) {
        width = (std::max)(width, group.name.size());
    }
    std::string result;
    for (const Group& group : groups) {
        result += group.name + std::string(width - group.name.size(), ' ');
        if (group.checked == 0) {
            result += "  NOT CHECKED";
        } else {
            result += (group.passed() ? "  ok     " : "  WRONG  ") + detail::short_number(group.error) + " off (" +
                      detail::short_number(group.tolerance) + " allowed) in " + std::to_string(group.checked) +
                      " differences";
        }
        if (group.skipped > 0) {
            result += ", " + std::to_string(group.skipped) + " skipped: the routing changes";
        }
        if (group.checked > 0 && group.largest == 0) {
            result += ", all gradients are 0";
        } else if (!group.worst.empty()) {
            result += ", most at " + group.worst + ": gradient " + detail::short_number(group.gradient) +
                      ", difference " + detail::short_number(group.difference);
        }
        result += '\n';
    }
    return result;
}

}  // namespace moe::inline MOE_ABI
