// Tells what a published model with experts is made of, what a token costs, how fast this machine could be and what
// fits in its memory. benchmarks/README.md explains what it prints.
#include <cstdio>
#include <exception>
#include <string>
#include <vector>

#include <moe/instantiate.hpp>
#include <moe/io.hpp>

#include "limits.hpp"
#include "measure.hpp"
#include "model_facts.hpp"
#include "options.hpp"
#include "report.hpp"

namespace inspect {
namespace {

void print(const std::string& text) {
    std::fputs(text.c_str(), stdout);
    std::fflush(stdout);
}

std::size_t first_sparse(const ModelFacts& facts) {
    moe::ensure(!facts.groups.empty(), moe::ErrorCode::not_found, "there is no layer with experts to measure");
    return facts.groups.front().layers.front();
}

void run(const Options& options) {
    const auto checkpoint = moe::Checkpoint::open(options.path);
    const ModelFacts facts = facts_of(checkpoint);
    const std::size_t layer = options.measure ? options.layer.value_or(first_sparse(facts)) : 0;
    if (options.measure) {
        (void)checkpoint.config(layer);  // what cannot be measured is refused before anything is printed
    }
    print(model_text(options.path, facts));
    if (!options.no_speed && !facts.groups.empty()) {
        print(speed_text(facts, measure_limits(options.threads), options.tokens));
    }
    if (options.measure) {
        print(measured_text(facts, measure_layer(checkpoint, layer, options.tokens, options.threads)));
    }
    if (options.plan) {
        print(plan_text(facts, usable_memory()));
    }
}

}  // namespace
}  // namespace inspect

int main(int argc, char** argv) {
    try {
        const std::vector<const char*> arguments(argv + (argc > 0 ? 1 : 0), argv + argc);
        const inspect::Options options = inspect::parse_options(arguments);
        if (options.help) {
            std::fputs(inspect::usage().c_str(), stdout);
            return 0;
        }
        inspect::run(options);
        return 0;
    } catch (const std::exception& error) {
        std::fprintf(stderr, "moe_inspect: %s\n", error.what());
        return 2;
    }
}
