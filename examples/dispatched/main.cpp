// One program for all x86-64 processors: the layer is compiled for several instruction sets, and the best one this
// machine has is chosen at the start; another one by an argument or the variable MOE_LEVEL: dispatched [level].

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <vector>

#include "layer.hpp"

namespace {

std::vector<float> values(std::size_t count, float scale) {
    std::vector<float> result(count);
    for (std::size_t i = 0; i < count; ++i) {
        result[i] = scale * static_cast<float>(std::sin(static_cast<double>(i * i % 1000003)));
    }
    return result;
}

int run(std::string_view wanted) {
    const std::size_t n_experts = 8;
    const std::size_t d_model = 128;
    const std::size_t d_ff = 96;
    const std::size_t n_tokens = 33;
    const std::vector<float> router = values(n_experts * d_model, 1.0F);
    const std::vector<float> gate = values(n_experts * d_ff * d_model, 0.1F);
    const std::vector<float> up = values(n_experts * d_ff * d_model, 0.2F);
    const std::vector<float> down = values(n_experts * d_model * d_ff, 0.3F);
    const std::vector<float> x = values(n_tokens * d_model, 1.0F);
    const Weights weights{n_experts, d_model, d_ff, router.data(), gate.data(), up.data(), down.data()};

    const moe::Level level = make_layer.level_called(wanted);
    const std::unique_ptr<Layer> layer = make_layer.at(level)(weights);
    std::vector<float> y(n_tokens * d_model);
    layer->forward(x.data(), y.data(), n_tokens);
    std::printf("level: %s\n%s\n", std::string(moe::level_name(level)).c_str(), layer->description().c_str());

    // all levels that run here agree
    double largest = 0;
    for (const float value : y) {
        largest = std::fmax(largest, std::fabs(static_cast<double>(value)));
    }
    std::printf("largest output: %.6f\n", largest);
    bool good = largest > 0.01 && largest < 100;
    for (const moe::Level other : make_layer.levels()) {
        if (!moe::runs_here(other)) {
            continue;
        }
        std::vector<float> again(n_tokens * d_model);
        make_layer.at(other)(weights)->forward(x.data(), again.data(), n_tokens);
        double difference = 0;
        for (std::size_t i = 0; i < y.size(); ++i) {
            difference = std::fmax(difference, std::fabs(static_cast<double>(y[i]) - static_cast<double>(again[i])));
        }
        std::printf("%s differs by at most %.1e\n", std::string(moe::level_name(other)).c_str(), difference);
        good = good && difference <= 1e-5 * largest;
    }
    return good ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
    const char* const variable = std::getenv("MOE_LEVEL");
    try {
        return run(argc > 1 ? argv[1] : variable != nullptr ? variable : "");
    } catch (const std::exception& error) {
        std::fprintf(stderr, "dispatched: %s\n", error.what());
        return 2;
    }
}
