#pragma once

#include <concepts>
#include <cstddef>
#include <span>

#include "../core/matrix_view.hpp"

namespace moe::inline MOE_ABI {

/// What a gate holds that may be trained beside the router: views, empty or null where it has none.
struct GateParameters {
    std::span<const float> per_expert_scale{};  ///< of TokenChoice, TopKPerGroup: one an expert that has a scale
    MatrixView<const float> centroids{};        ///< of Cosine: (n_experts, width)
    const double* temperature = nullptr;        ///< of Cosine
};

/// Where the gradients of a gate's parameters are added, T the type of the layer; what is empty is not computed.
template <class T>
struct GateGradients {
    std::span<T> per_expert_scale{};  ///< (n_experts), without shared experts as the scale is (WithShared)
    MatrixView<T> centroids{};        ///< (n_experts, width)
    T* temperature = nullptr;         ///< one value
};

/// GateGradients of any T, which must outlive it, as Chosen takes them through a gate and the adaptors around it. What
/// is not wanted is dropped.
class GateGradientsRef {
public:
    /// None are wanted.
    constexpr GateGradientsRef() = default;
    explicit GateGradientsRef(const GateGradients<float>& to) : floats_(&to) {}
    explicit GateGradientsRef(const GateGradients<double>& to) : doubles_(&to) {}

    [[nodiscard]] bool wants_per_expert_scale() const {
        return (floats_ != nullptr && !floats_->per_expert_scale.empty()) ||
               (doubles_ != nullptr && !doubles_->per_expert_scale.empty());
    }
    /// Whether centroids or a temperature are.
    [[nodiscard]] bool wants_cosine() const {
        return (floats_ != nullptr && (!floats_->centroids.empty() || floats_->temperature != nullptr)) ||
               (doubles_ != nullptr && (!doubles_->centroids.empty() || doubles_->temperature != nullptr));
    }

    void add_per_expert_scale(std::size_t e, double value) const {
        visit([&]<class T>(const GateGradients<T>& to) {
            if (e < to.per_expert_scale.size()) {
                to.per_expert_scale[e] += static_cast<T>(value);
            }
        });
    }
    void add_centroid(std::size_t e, std::size_t i, double value) const {
        visit([&]<class T>(const GateGradients<T>& to) {
            if (!to.centroids.empty()) {
                to.centroids(e, i) += static_cast<T>(value);
            }
        });
    }
    void add_temperature(double value) const {
        visit([&]<class T>(const GateGradients<T>& to) {
            if (to.temperature != nullptr) {
                *to.temperature += static_cast<T>(value);
            }
        });
    }

private:
    template <class F>
    void visit(const F& f) const {
        if (floats_ != nullptr) {
            f(*floats_);
        } else if (doubles_ != nullptr) {
            f(*doubles_);
        }
    }

    const GateGradients<float>* floats_ = nullptr;
    const GateGradients<double>* doubles_ = nullptr;
};

namespace detail {

template <class G>
concept NamesParameters = requires(const G& gate) {
    { gate.parameters() } -> std::same_as<GateParameters>;
};

}  // namespace detail

/// What of a gate and the gates inside it has gradients: those that its `backward` adds to Chosen::gradients. None for
/// a gate that does not say. Throws Error(missing) where two gates hold the same kind.
template <class G>
[[nodiscard]] GateParameters gate_parameters([[maybe_unused]] const G& gate) {
    if constexpr (detail::NamesParameters<G>) {
        return gate.parameters();
    } else {
        return {};
    }
}

}  // namespace moe::inline MOE_ABI
