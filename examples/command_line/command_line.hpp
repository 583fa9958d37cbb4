#pragma once

#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

/// The command lines of the programs in examples/ and benchmarks/: flags `--name`, options `--name value` and
/// `--name=value` in any order, the last of each counts. Parsed by CLI11, which no file but command_line.cpp includes.
namespace command_line {

class Parser {
public:
    /// `usage` is the head of the help text: how to call the program, and what it does.
    explicit Parser(std::string usage);
    ~Parser();
    Parser(const Parser&) = delete;
    Parser& operator=(const Parser&) = delete;

    /// `--name`, which makes `value` true.
    void flag(const std::string& name, bool& value, const std::string& help);

    /// `--name value`: `set` is called with the value and throws moe::Error for one that cannot be. `value_name` is
    /// what the help text calls it.
    void option(const std::string& name, const std::string& value_name, std::function<void(const std::string&)> set,
                const std::string& help);

    /// An argument without a name, which goes to `into`; one at most.
    void argument(std::string& into);

    /// Arguments that begin with `prefix` are for somebody else: they go to `into` as they are.
    void pass_on(std::string prefix, std::vector<std::string>& into);

    /// Throws moe::Error for whatever is wrong, in one sentence.
    void parse(std::span<const char* const> arguments);

    /// What `--help` prints.
    [[nodiscard]] std::string help() const;

private:
    struct Held;
    std::unique_ptr<Held> held_;
};

}  // namespace command_line
