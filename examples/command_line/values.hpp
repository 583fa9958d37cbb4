#pragma once

#include <algorithm>
#include <charconv>
#include <cstddef>
#include <string>
#include <string_view>
#include <system_error>
#include <vector>

#include <moe/core/error.hpp>

/// What the values of options are made of. All of it throws moe::Error for what is wrong, in one sentence.
namespace command_line {

/// `text` as a number in [least, most]; the whole text must be one.
template <class Number>
[[nodiscard]] Number parse_number(std::string_view name, std::string_view text, Number least, Number most) {
    Number value{};
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    const bool whole = error == std::errc{} && end == text.data() + text.size();
    moe::ensure(whole && value >= least && value <= most, moe::ErrorCode::range, name, " is '", text,
                "', it must be a number in ", least, "..", most);
    return value;
}

/// The parts of a list, and `all` where the text says so.
template <class T, class Parse>
[[nodiscard]] std::vector<T> parse_list(std::string_view text, const std::vector<T>& all, Parse&& parse) {
    if (text == "all") {
        return all;
    }
    std::vector<T> values;
    for (std::size_t begin = 0; begin <= text.size();) {
        const std::size_t end = std::min(text.find(',', begin), text.size());
        values.push_back(parse(text.substr(begin, end - begin)));
        begin = end + 1;
    }
    return values;
}

/// "a, b, c" of the names of a range.
template <class Range, class Name>
[[nodiscard]] std::string joined(const Range& range, Name&& name) {
    std::string text;
    for (const auto& value : range) {
        text += text.empty() ? "" : ", ";
        text += name(value);
    }
    return text;
}

/// The value of `range` that `name` gives this name to. Throws, listing all of them.
template <class Range, class Name>
[[nodiscard]] auto named(std::string_view option, std::string_view text, const Range& range, Name&& name) {
    const auto found = std::ranges::find(range, text, name);
    moe::ensure(found != std::ranges::end(range), moe::ErrorCode::range, option, " is '", text, "', it must be one of ",
                std::string_view(joined(range, name)));
    return *found;
}

}  // namespace command_line
