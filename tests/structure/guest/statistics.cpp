// Statistics of a user's layer, and of counts in a type of the user's.

#include <string>

#include <moe/stats.hpp>

#include "guest.hpp"

namespace guest {

void use_statistics(Report& result) {
    const Data<float> data;
    const moe::MoELayer layer{moe::Router{data.router_view(), TokenGate{}},
                              moe::ExpertBank<float, Form>({}, data.weights())};
    moe::RouterStats<float> stats(data.n_experts);
    moe::PhaseTimer<float> timer;
    Observer<float> own;
    moe::Observers<float> observers{&stats, &timer, &own};
    std::vector<float> y(data.x.size());
    moe::Workspace workspace;
    layer.forward(data.x_view(), moe::view(y.data(), data.n_tokens, data.d_model), workspace, Executor{},
                  {.observer = &observers});
    result.expect(own.plans == 1, "observers");
    result.expect(moe::to_json(stats).find("load") != std::string::npos, "to_json");

    const Counts counts{{{1, 2, 3, 4}}};
    result.expect(moe::load_summary(counts).total == 10, "load_summary");
    result.expect(moe::load_distance(counts, counts) == 0, "load_distance");
    result.expect(moe::load_divergence(counts, counts) == 0, "load_divergence");
    result.expect(moe::padding_efficiency(counts, 4) > 0, "padding_efficiency");
}

}  // namespace guest
