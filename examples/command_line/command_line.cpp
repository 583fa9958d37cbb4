#include "command_line.hpp"

#include <algorithm>
#include <utility>

#include <CLI/CLI.hpp>

#include <moe/core/error.hpp>

namespace command_line {

struct Parser::Held {
    CLI::App app;
    std::string usage;
    std::vector<std::string> with_value;
    std::string prefix;
    std::vector<std::string>* passed_on = nullptr;
    std::string* argument = nullptr;
};

Parser::Parser(std::string usage) : held_(std::make_unique<Held>()) {
    held_->usage = std::move(usage);
    held_->app.set_help_flag();  // --help is a flag like the others, and there is no -h
    held_->app.allow_extras();
    held_->app.option_defaults()->multi_option_policy(CLI::MultiOptionPolicy::TakeLast);
}

Parser::~Parser() = default;

void Parser::flag(const std::string& name, bool& value, const std::string& help) {
    held_->app.add_flag("--" + name, value, help);
}

void Parser::option(const std::string& name, const std::string& value_name, std::function<void(const std::string&)> set,
                    const std::string& help) {
    held_->app.add_option_function<std::string>("--" + name, set, help)->type_name(value_name);
    held_->with_value.push_back("--" + name);
}

void Parser::argument(std::string& into) { held_->argument = &into; }

void Parser::pass_on(std::string prefix, std::vector<std::string>& into) {
    held_->prefix = std::move(prefix);
    held_->passed_on = &into;
}

void Parser::parse(std::span<const char* const> arguments) {
    std::vector<std::string> words;
    bool is_value = false;
    for (const std::string argument : arguments) {
        const std::size_t equals = is_value || !argument.starts_with("--") ? std::string::npos : argument.find('=');
        if (!is_value && held_->passed_on != nullptr && argument.starts_with(held_->prefix)) {
            held_->passed_on->push_back(argument);
            continue;
        }
        words.push_back(argument.substr(0, equals));
        is_value = !is_value && equals == std::string::npos && std::ranges::count(held_->with_value, argument) > 0;
        if (equals != std::string::npos) {  // CLI11 would take the empty value of --name= for none
            words.push_back(argument.substr(equals + 1));
        }
    }
    moe::ensure(!is_value, moe::ErrorCode::missing, "option ", is_value ? words.back().c_str() : "", " needs a value");
    std::ranges::reverse(words);  // CLI11 reads from the back
    try {
        held_->app.parse(words);
    } catch (const CLI::ParseError& error) {
        moe::raise_error(moe::ErrorCode::range, error.what());
    }
    std::vector<std::string> rest = held_->app.remaining();
    if (held_->argument != nullptr && !rest.empty() && !rest.front().starts_with("-")) {
        *held_->argument = rest.front();
        rest.erase(rest.begin());
    }
    if (!rest.empty()) {
        moe::raise_error(moe::ErrorCode::range, "unknown option '", rest.front().c_str(), "'; --help lists them all");
    }
}

std::string Parser::help() const {
    std::string text = held_->usage + "\n";
    for (const CLI::Option* option : held_->app.get_options()) {
        std::string line = "  " + option->get_name() + " " + option->get_type_name();
        line.resize(std::max<std::size_t>(line.size() + 1, 22), ' ');
        const std::string indent(22, ' ');
        std::string help = option->get_description();
        for (std::size_t at = help.find('\n'); at != std::string::npos; at = help.find('\n', at + indent.size())) {
            help.insert(at + 1, indent);
        }
        text += line + help + "\n";
    }
    return text;
}

}  // namespace command_line
