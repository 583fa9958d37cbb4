#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <utility>
#include <vector>

#include "../core/error.hpp"
#include "../core/index.hpp"
#include "../core/matrix_view.hpp"
#include "../layer/parts/observer.hpp"
#include "load.hpp"

namespace moe::inline MOE_ABI {

/// Counts which experts serve which class of tokens: the caller says before each pass what class each token is of, a
/// domain, a language, a kind of word. O(assignments) a pass, 8 * classes * experts bytes, no allocation after
/// construction. For one layer and one pass at a time.
template <class T>
class Specialisation : public Observer<T> {
public:
    using Count = std::uint64_t;

    /// Class of a token that is not counted.
    static constexpr std::int32_t no_class = -1;

    /// Throws Error: no experts or no classes (range), a product that does not fit (overflow).
    Specialisation(std::size_t n_experts, std::size_t n_classes) : n_experts_(n_experts), n_classes_(n_classes) {
        ensure(n_experts > 0 && n_classes > 0, ErrorCode::range, "Specialisation: ", n_classes, " classes and ",
               n_experts, " experts, there must be at least 1 of each");
        counts_.resize(checked_multiply(n_classes, n_experts));
        tokens_.resize(n_classes);
    }

    /// The class of each token of the next pass, which reads them and forgets them: they must live until then.
    void set_classes(std::span<const std::int32_t> classes) noexcept { classes_ = classes; }

    /// Throws Error, and counts nothing: a plan of another number of experts, or classes not given for all its tokens
    /// (shape), a class that cannot be (range).
    void on_plan(const RoutingRecord<T>& record) override {
        const PlanView<T>& plan = record.plan;
        const std::span<const std::int32_t> classes = std::exchange(classes_, {});
        ensure(plan.n_experts == n_experts_, ErrorCode::shape, "Specialisation: a plan of ", plan.n_experts,
               " experts, this object counts ", n_experts_);
        ensure(classes.size() == plan.n_tokens, ErrorCode::shape, "Specialisation: ", classes.size(), " classes for ",
               plan.n_tokens, " tokens; call set_classes before each pass");
        for (std::size_t t = 0; t < classes.size(); ++t) {
            ensure(classes[t] >= no_class && std::cmp_less(classes[t], n_classes_), ErrorCode::range,
                   "Specialisation: token ", t, " is of class ", classes[t], ", the classes are 0..", n_classes_ - 1,
                   " and -1 for none");
        }
        for (std::size_t t = 0; t < classes.size(); ++t) {
            if (classes[t] != no_class && (record.valid.empty() || record.valid[t] != 0)) {
                const auto c = static_cast<std::size_t>(classes[t]);
                ++tokens_[c];
                for (const ExpertId e : plan.experts_of(t)) {
                    ++counts_[c * n_experts_ + static_cast<std::size_t>(e)];
                }
            }
        }
    }

    [[nodiscard]] std::size_t n_experts() const noexcept { return n_experts_; }
    [[nodiscard]] std::size_t n_classes() const noexcept { return n_classes_; }

    /// (n_classes, n_experts) assignments of tokens of a class to an expert.
    [[nodiscard]] MatrixView<const Count> counts() const& {
        return {counts_.data(), n_classes_, n_experts_, n_experts_};
    }
    MatrixView<const Count> counts() const&& = delete;  // temporary: give the counter a name
    /// (n_classes) tokens of each class.
    [[nodiscard]] std::span<const Count> tokens() const& noexcept { return tokens_; }
    std::span<const Count> tokens() const&& = delete;  // temporary: give the counter a name

    /// N_e,D / N_D, the share of the tokens of class D that go to expert e: domain and vocabulary specialisation of
    /// Muennighoff et al. 2024, "OLMoE" (2409.02060, section 5). K / E where experts do not specialise; NaN for a class
    /// without tokens.
    [[nodiscard]] double share(std::size_t token_class, std::size_t expert) const {
        return static_cast<double>(counts_[token_class * n_experts_ + expert]) /
               static_cast<double>(tokens_[token_class]);
    }

    /// How much the expert of an assignment tells of the class of its token: the mutual information of the two by the
    /// entropy of the class, sum p(c,e) log (p(c,e) / p(c) p(e)) / -sum p(c) log p(c), with p from the counts
    /// (uncertainty coefficient, Theil 1970). 0 where all classes have one load, 1 where no expert serves two classes;
    /// NaN where less than two classes were seen. O(classes * experts).
    [[nodiscard]] double information() const {
        double total = 0;
        double class_entropy = 0;
        double joint = 0;
        for (std::size_t c = 0; c < n_classes_; ++c) {
            total += moe::load_total(counts().row_span(c));
        }
        for (std::size_t c = 0; c < n_classes_; ++c) {
            class_entropy -= detail::times_log(moe::load_total(counts().row_span(c)) / total);
            joint += detail::sum_over(counts().row_span(c), [total](double n) { return detail::times_log(n / total); });
        }
        double expert_entropy = 0;
        for (std::size_t e = 0; e < n_experts_; ++e) {
            double sum = 0;
            for (std::size_t c = 0; c < n_classes_; ++c) {
                sum += static_cast<double>(counts()(c, e));
            }
            expert_entropy -= detail::times_log(sum / total);
        }
        return class_entropy > 0 ? (std::max)(0.0, class_entropy + expert_entropy + joint) / class_entropy
                                 : detail::undefined();
    }

    /// Adds what another object has counted. Throws Error(shape) for other numbers of experts or classes.
    void merge(const Specialisation& other) {
        ensure(other.n_experts_ == n_experts_ && other.n_classes_ == n_classes_, ErrorCode::shape,
               "Specialisation: to merge ", other.n_classes_, " classes and ", other.n_experts_, " experts with ",
               n_classes_, " and ", n_experts_);
        std::transform(counts_.begin(), counts_.end(), other.counts_.begin(), counts_.begin(), std::plus<>{});
        std::transform(tokens_.begin(), tokens_.end(), other.tokens_.begin(), tokens_.begin(), std::plus<>{});
    }

    /// Forgets what was counted.
    void reset() noexcept {
        std::fill(counts_.begin(), counts_.end(), Count{0});
        std::fill(tokens_.begin(), tokens_.end(), Count{0});
    }

private:
    std::size_t n_experts_;
    std::size_t n_classes_;
    std::vector<Count> counts_;
    std::vector<Count> tokens_;
    std::span<const std::int32_t> classes_;
};

}  // namespace moe::inline MOE_ABI
