#include "options.hpp"

#include <algorithm>
#include <charconv>
#include <iterator>
#include <string_view>
#include <system_error>

#include <moe/core/error.hpp>

namespace generate {

namespace {

/// `text` as a number in [least, most]; the whole text must be one.
template <class Number>
Number parse_number(std::string_view name, std::string_view text, Number least, Number most) {
    Number value{};
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    const bool whole = error == std::errc{} && end == text.data() + text.size();
    moe::require(whole && value >= least && value <= most, moe::ErrorCode::range, name, " is '", text,
                 "', it must be a number in ", least, "..", most);
    return value;
}

constexpr std::string_view option_names[] = {"--model",       "--prompt", "--length", "--context",
                                             "--temperature", "--seed",   "--threads"};

/// `name` is one of option_names.
void set_option(std::string_view name, std::string_view value, Options& options) {
    if (name == "--model") {
        options.model = value;
    } else if (name == "--prompt") {
        moe::require(!value.empty(), moe::ErrorCode::range, "the prompt is empty; give at least one character");
        options.prompt = value;
    } else if (name == "--length") {
        options.length = parse_number(name, value, 1, 1000000);
    } else if (name == "--context") {
        options.context = parse_number(name, value, 2, 1000000);
    } else if (name == "--temperature") {
        options.temperature = parse_number(name, value, 0.0, 100.0);
    } else if (name == "--seed") {
        options.seed = parse_number<std::uint64_t>(name, value, 0, UINT64_MAX);
    } else {
        options.threads = parse_number(name, value, 1, 1024);
    }
}

}  // namespace

Options parse_options(std::span<const char* const> arguments) {
    Options options;
    options.model = MOE_MODEL_DIR;
    for (std::size_t i = 0; i < arguments.size(); ++i) {
        const std::string_view argument = arguments[i];
        if (argument == "--help") {
            options.help = true;
            return options;
        }
        const std::size_t equals = argument.find('=');
        const std::string_view name = argument.substr(0, equals);
        moe::require(std::ranges::find(option_names, name) != std::end(option_names), moe::ErrorCode::range,
                     "unknown option '", name, "'; --help lists them all");
        if (equals != std::string_view::npos) {
            set_option(name, argument.substr(equals + 1), options);
        } else {
            moe::require(i + 1 < arguments.size(), moe::ErrorCode::missing, "option ", name, " needs a value");
            set_option(name, arguments[++i], options);
        }
    }
    return options;
}

const char* usage() noexcept {
    return "usage: generate [options]\n"
           "Checks a small Mixtral model against stored values, then continues a text with it.\n"
           "\n"
           "  --prompt TEXT      text to continue (default: ROMEO: and a new line)\n"
           "  --length N         bytes to generate (default: 400)\n"
           "  --context N        most bytes to look back at; a longer text is read anew from its last half\n"
           "                     of them (default: 256, what the model was trained on)\n"
           "  --temperature X    0 takes the likeliest byte, larger is more random (default: 0.8)\n"
           "  --seed N           of the random choice; the same seed gives the same text (default: 1)\n"
           "  --threads N        threads of the MoE layers (default: one for each processor)\n"
           "  --model DIR        folder with config.json, model.safetensors, reference.json and\n"
           "                     reference.safetensors (default: the one of this repository)\n"
           "  --help             print this\n";
}

}  // namespace generate
