// Gates, forms, banks, executors, observers and layers of a user's namespace, in everything that takes them; what they
// compute is what the library's own compute.

#include "guest.hpp"

#include <cmath>
#include <cstring>

namespace guest {

namespace {

template <class T>
bool equal(const std::vector<T>& a, const std::vector<T>& b) {
    return std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0;
}
template <class T>
bool near(const std::vector<T>& a, const std::vector<T>& b) {
    for (std::size_t i = 0; i < a.size(); ++i) {
        if (!(std::abs(a[i] - b[i]) < T(1e-5))) {
            return false;
        }
    }
    return true;
}

template <class T>
void use_gates(Report& result) {
    const Data<T> data;
    const std::vector<T> expected = data.output(data.plain_layer());
    const auto layer = data.plain_layer();
    const auto same = [&](const auto& gate, const char* what) {
        const moe::MoELayer own{moe::Router{data.router_view(), gate}, layer.experts()};
        result.expect(equal(data.output(own), expected), what);
        result.expect(equal(data.output(layer.with_gate(gate)), expected), what);
    };
    const std::vector<std::uint8_t> all(data.n_experts, 1);
    same(TokenGate{}, "token gate");
    same(BatchGate{}, "batch gate");
    same(moe::AnyGate(TokenGate{}), "token gate in AnyGate");
    same(moe::AnyGate(BatchGate{}), "batch gate in AnyGate");
    same(moe::TokenChoice<Score>{.top_k = 2}, "score in TokenChoice");
    same(moe::Capacity<TokenGate>{.limit = moe::CapacityLimit::fixed(100)}, "Capacity");
    same(moe::Capacity<BatchGate>{.limit = moe::CapacityLimit::fixed(100)}, "Capacity of a batch gate");
    same(moe::Masked<TokenGate>{.allowed = all}, "Masked");
    same(moe::WithoutNull<TokenGate>{.first_null = 4, .renormalize = false}, "WithoutNull");
    if constexpr (std::is_same_v<T, float>) {
        same(FloatGate{}, "gate of floats");
    } else {
        result.expect(near(data.output(layer.with_gate(FloatGate{})), expected), "gate of floats in double");
    }
    const std::vector<moe::ExpertId> chosen{0, 3};
    const std::vector<float> centroids(data.n_experts * 4, 0.5F);
    const moe::Forced<TokenGate> forced{.experts = moe::view(chosen.data(), 1, 2)};
    const moe::Cosine<TokenGate> cosine{.centroids = moe::view(centroids.data(), data.n_experts, 4)};
    result.expect(data.output(layer.with_gate(forced)).size() == expected.size(), "Forced");
    const moe::MoELayer compared{moe::Router{moe::view(data.router.data(), 4, data.d_model), cosine}, layer.experts()};
    result.expect(data.output(compared).size() == expected.size(), "Cosine");
    data.output(layer.with_gate(moe::WithShared<TokenGate>{}));
    data.output(layer.with_gate(moe::TopP<Score>{}));
    data.output(layer.with_gate(moe::Dense<Score>{}));
    data.output(layer.with_gate(moe::Threshold<Score>{}));
    data.output(layer.with_gate(moe::TopKPerGroup<Score>{.n_groups = 2}));
    data.output(layer.with_gate(moe::ExpertChoice<Score>{.capacity_factor = 2}));
}

template <class T>
void use_experts(Report& result) {
    const Data<T> data;
    const std::vector<T> expected = data.output(data.plain_layer());
    const moe::Router router{data.router_view(), TokenGate{}};
    const auto same = [&](const auto& bank, const char* what) {
        const moe::MoELayer layer{router, bank};
        result.expect(near(data.output(layer), expected), what);
        const auto packed = moe::pack(layer, Executor{});
        result.expect(near(data.output(packed), expected), what);
        result.expect(!packed.describe().text().empty(), what);
    };
    same(moe::ExpertBank<T, moe::Gated<Activation>>({}, data.weights()), "Gated");
    same(moe::ExpertBank<T, moe::Gated<ScalarActivation>>({}, data.weights()), "Gated of a scalar activation");
    same(moe::ExpertBank<T, Form>({}, data.weights()), "a form");
    same(moe::ExpertBank<T, moe::ClampedBefore<Activation>>({.limit = 100}, data.weights()), "ClampedBefore");
    same(moe::ExpertBank<T, moe::ClampedAfter<Activation>>({.limit = 100}, data.weights()), "ClampedAfter");

    using Bank = Source<moe::ExpertBank<T, Form>>;
    const Bank bank({}, data.weights());
    const moe::MoELayer layer{router, bank, moe::SharedExperts<Bank>(Bank(bank.expert(0)))};
    result.expect(data.output(layer) != expected, "shared experts");
    moe::Workspace workspace;
    std::vector<T> y(data.x.size());
    moe::Expert<Bank>(Bank(bank.expert(1)))
        .forward(data.x_view(), moe::view(y.data(), data.n_tokens, data.d_model), workspace, Executor{});
    const moe::SoftMoELayer soft{data.router_view(), bank};
    data.output(soft);
    if constexpr (std::is_same_v<T, float>) {
        const moe::MoELayer small{router, moe::ExpertBank<T, Form>({}, data.weights())};
        data.output(moe::pack<moe::Int8>(small, Executor{}, moe::Compute::int8));
        data.output(moe::pack<moe::bfloat16>(small));
    }
}

template <class T>
void use_layers(Report& result) {
    const Data<T> data;
    const moe::MoELayer inner{moe::Router{data.router_view(), TokenGate{}},
                              moe::ExpertBank<T, Form>({}, data.weights())};
    using Inner = std::remove_const_t<decltype(inner)>;
    static_assert(moe::ForwardLayer<Layer<Inner>>);
    const moe::HierarchicalLayer layer{
        moe::Router{moe::view(data.router.data(), 2, data.d_model), moe::AnyGate(TokenGate{})},
        std::vector<Layer<Inner>>(2, Layer<Inner>{inner})};
    Observer<T> observer;
    std::vector<T> y(data.x.size());
    moe::Workspace workspace;
    layer.forward(data.x_view(), moe::view(y.data(), data.n_tokens, data.d_model), workspace, Executor{},
                  {.observer = &observer});
    result.expect(observer.plans == 1, "HierarchicalLayer");

    const moe::ProductKeyRouter<T> keys(moe::view(data.gate.data(), 4, data.d_model), 1);
    const moe::NeuronLayer neurons{keys, moe::ProductKeys{.top_k = 2}, data.router_view(), data.router_view(),
                                   Activation{}};
    data.output(neurons);

    const moe::AnyLayer<T> any(inner);
    result.expect(data.output(any) == data.output(inner), "AnyLayer");
    data.output(any.with_gate(BatchGate{}));
    const moe::MixtureOfDepths depths{moe::Router{moe::view(data.router.data(), 1, data.d_model), FirstOfOne{}}};
    depths.forward(data.x_view(), moe::view(y.data(), data.n_tokens, data.d_model), workspace, Block{}, Executor{});

    moe::RoutingPlan<T> plan;
    inner.route(data.x_view(), plan, workspace, Executor{});
    inner.forward(data.x_view(), plan, moe::view(y.data(), data.n_tokens, data.d_model), workspace, Executor{});
    auto pass = inner.prepare(data.x_view(), moe::view(y.data(), data.n_tokens, data.d_model), workspace, 1);
    for (int phase = 0; phase < moe::n_phases; ++phase) {
        pass.run_phase(static_cast<moe::Phase>(phase), 0, 1);
    }
}

}  // namespace

}  // namespace guest

int main() {
    guest::Report result;
    guest::use_gates<float>(result);
    guest::use_gates<double>(result);
    guest::use_experts<float>(result);
    guest::use_experts<double>(result);
    guest::use_layers<float>(result);
    guest::use_layers<double>(result);
    guest::use_statistics(result);
    guest::use_training(result);
#ifdef GUEST_EIGEN
    guest::use_eigen(result);
#endif
#ifdef GUEST_IO
    guest::use_io(result);
#endif
    return result.failures() == 0 ? 0 : 1;
}
