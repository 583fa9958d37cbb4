#include "layer/strategies/strategy_layer.hpp"

#include <utility>

namespace moe_test {

namespace {

template <class T>
auto make(const LayerCase<T>& layer_case, moe::MatrixView<const T> router, moe::AnyGate gate) {
    return moe::MoELayer{moe::Router(router, std::move(gate)), layer_case.bank(), layer_case.shared(),
                         layer_case.options()};
}

}  // namespace

template <class T>
struct StrategyLayer<T>::Held {
    decltype(make<T>(std::declval<const LayerCase<T>&>(), {}, std::declval<moe::AnyGate>())) layer;
};

template <class T>
StrategyLayer<T>::StrategyLayer(const LayerCase<T>& layer_case, moe::MatrixView<const T> router, moe::AnyGate gate)
    : held_(new Held{make<T>(layer_case, router, std::move(gate))}) {}

template <class T>
StrategyLayer<T>::~StrategyLayer() = default;

template <class T>
void StrategyLayer<T>::forward(moe::MatrixView<const T> x, moe::MatrixView<T> y, moe::Workspace& workspace,
                               moe::ExecutorRef executor, const moe::ForwardOptions<T>& options) const {
    held_->layer.forward(x, y, workspace, executor, options);
}

template <class T>
void StrategyLayer<T>::forward(moe::MatrixView<const T> x, const moe::PlanView<T>& plan, moe::MatrixView<T> y,
                               moe::Workspace& workspace, moe::ExecutorRef executor,
                               const moe::ForwardOptions<T>& options) const {
    held_->layer.forward(x, plan, y, workspace, executor, options);
}

template <class T>
void StrategyLayer<T>::route(moe::MatrixView<const T> x, moe::RoutingPlan<T>& plan, moe::Workspace& workspace,
                             moe::ExecutorRef executor, const moe::ForwardOptions<T>& options) const {
    held_->layer.route(x, plan, workspace, executor, options);
}

template <class T>
std::size_t StrategyLayer<T>::workspace_bytes(std::size_t n_tokens, std::size_t n_workers) const {
    return held_->layer.workspace_bytes(n_tokens, n_workers);
}

template <class T>
void StrategyLayer<T>::forward_with(moe::AnyGate gate, moe::MatrixView<const T> x, moe::MatrixView<T> y,
                                    moe::Workspace& workspace, const moe::ForwardOptions<T>& options) const {
    held_->layer.with_gate(std::move(gate)).forward(x, y, workspace, moe::SerialExecutor{}, options);
}

template class StrategyLayer<float>;
template class StrategyLayer<double>;

}  // namespace moe_test
