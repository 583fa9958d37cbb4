// Compares ways to choose experts, or the costs of models. benchmarks/README.md explains what it prints.
#include <cstdio>
#include <exception>
#include <fstream>
#include <span>
#include <string>

#include <moe/core/error.hpp>

#include "../google.hpp"
#include "comparison.hpp"
#include "cost.hpp"
#include "options.hpp"
#include "output/output.hpp"
#include "training/finished_trainings.hpp"

namespace {

struct File {
    const std::string& path;
    std::string (*make)(const compare::Report&);
};

std::vector<File> files(const compare::Options& options) {
    return {{options.json, compare::to_json}, {options.csv, compare::to_csv}, {options.html, compare::to_html}};
}

/// Before minutes go by.
void check_writable(const compare::Options& options) {
    for (const File& file : files(options)) {
        if (!file.path.empty()) {
            const std::ofstream opened(file.path, std::ios::app);
            moe::ensure(opened.good(), moe::ErrorCode::file, "cannot write ", file.path);
        }
    }
    if (options.train) {
        const compare::FinishedTrainings runs(options.runs);
    }
}

/// Everything that can be wrong with the command line. False where there is nothing to run.
bool set_up(std::span<const char* const> arguments, compare::Options& options) {
    options = compare::parse_options(arguments);
    if (options.help || options.list) {
        std::fputs((options.help ? compare::usage() : compare::list()).c_str(), stdout);
        return false;
    }
    if (!options.cost) {
        bench::initialize_google("moe_compare", options.google);
    }
    check_writable(options);
    return true;
}

void write(const compare::Options& options, const compare::Report& report) {
    for (const File& file : files(options)) {
        if (!file.path.empty()) {
            std::ofstream stream(file.path, std::ios::binary);
            stream << file.make(report);
            stream.close();
            moe::ensure(stream.good(), moe::ErrorCode::file, "cannot write ", file.path);
            std::printf("wrote %s\n", file.path.c_str());
        }
    }
}

}  // namespace

int main(int argc, char** argv) {
    compare::Options options;
    try {
        if (!set_up({argv + 1, static_cast<std::size_t>(argc - 1)}, options)) {
            return 0;
        }
    } catch (const std::exception& error) {
        std::fprintf(stderr, "moe_compare: %s\n", error.what());
        return 2;
    }
    try {
        const compare::Report report =
            options.cost ? compare::compare_costs(options) : compare::compare_strategies(options);
        std::fputs(compare::table(report).c_str(), stdout);
        write(options, report);
        return 0;
    } catch (const std::exception& error) {
        std::fprintf(stderr, "moe_compare: %s\n", error.what());
        return 1;
    }
}
