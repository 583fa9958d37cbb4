#pragma once

#include <algorithm>
#include <cstddef>
#include <span>
#include <string>
#include <string_view>

#include <moe/core/error.hpp>

namespace bench {

/// `--name`, which makes a member of the options true.
template <class Options>
struct Flag {
    std::string_view name;
    bool Options::*member;
};

/// `--name value` or `--name=value`.
template <class Options>
struct Option {
    std::string_view name;
    void (*set)(Options&, std::string_view value);
};

/// Reads the command line of a benchmark into `options`; what begins with --benchmark_ goes to options.google. Throws
/// moe::Error for whatever is wrong, in one sentence.
template <class Options>
void parse_arguments(std::span<const char* const> arguments, std::span<const Flag<Options>> flags,
                     std::span<const Option<Options>> known, Options& options) {
    for (std::size_t i = 0; i < arguments.size(); ++i) {
        const std::string_view argument = arguments[i];
        if (const auto flag = std::ranges::find(flags, argument, &Flag<Options>::name); flag != flags.end()) {
            options.*(flag->member) = true;
            continue;
        }
        if (argument.starts_with("--benchmark_")) {
            options.google.emplace_back(argument);
            continue;
        }
        const std::size_t equals = argument.find('=');
        const std::string_view name = argument.substr(0, equals);
        const auto option = std::ranges::find(known, name, &Option<Options>::name);
        moe::require(option != known.end(), moe::ErrorCode::range, "unknown option '", name,
                     "'; --help lists them all");
        if (equals != std::string_view::npos) {
            option->set(options, argument.substr(equals + 1));
        } else {
            moe::require(i + 1 < arguments.size(), moe::ErrorCode::missing, "option ", name, " needs a value");
            option->set(options, arguments[++i]);
        }
    }
}

}  // namespace bench
