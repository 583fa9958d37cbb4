#pragma once

#include <initializer_list>
#include <vector>

#include "../core/error.hpp"
#include "../layer/parts/observer.hpp"

namespace moe::inline MOE_ABI {

/// Several observers where a pass takes one. They nest: on_phase_begin and on_plan reach the first first, on_phase_end
/// the last first, so that a timer given last times only the phase. Points to them; they must outlive it. An observer
/// that throws ends the pass, and those behind it are not told.
template <class T>
class Observers : public Observer<T> {
public:
    Observers() = default;
    Observers(std::initializer_list<Observer<T>*> observers) {
        for (Observer<T>* observer : observers) {
            add(observer);
        }
    }

    /// Throws Error(null_pointer).
    void add(Observer<T>* observer) {
        ensure(observer != nullptr, ErrorCode::null_pointer, "Observers: an observer is null");
        observers_.push_back(observer);
    }

    void on_phase_begin(Phase phase) override {
        for (Observer<T>* observer : observers_) {
            observer->on_phase_begin(phase);
        }
    }
    void on_phase_end(Phase phase) override {
        for (auto observer = observers_.rbegin(); observer != observers_.rend(); ++observer) {
            (*observer)->on_phase_end(phase);
        }
    }
    void on_plan(const RoutingRecord<T>& record) override {
        for (Observer<T>* observer : observers_) {
            observer->on_plan(record);
        }
    }

private:
    std::vector<Observer<T>*> observers_;
};

}  // namespace moe::inline MOE_ABI
