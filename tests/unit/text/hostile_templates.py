"""Templates that try to run for ever, to fill the memory, or to break the compiler."""

from __future__ import annotations

HOSTILE: dict[str, str] = {
    "range": "{% for i in range(10**9) %}x{% endfor %}",
    "nested": "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
    "nested30": "".join(f"{{% for a{i} in range(9) %}}" for i in range(30)) + "{% endfor %}" * 30,
    "mul": "{{ 'x' * 10**10 }}",
    "mul3": "{{ [0]*9999999999 }}",
    "double": (
        "{% set ns=namespace(s='xxxxxxxxxx') %}{% for i in range(60) %}"
        "{% set ns.s=ns.s+ns.s %}{% endfor %}{{ns.s}}"
    ),
    "doublecat": (
        "{% set ns=namespace(s='xxxxxxxxxx') %}{% for i in range(60) %}"
        "{% set ns.s=ns.s~ns.s %}{% endfor %}{{ns.s}}"
    ),
    "doublefmt": (
        "{% set ns=namespace(s='xxxxxxxxxx') %}{% for i in range(60) %}"
        "{% set ns.s='%s%s'|format(ns.s,ns.s) %}{% endfor %}{{ns.s}}"
    ),
    "doublejoin": (
        "{% set ns=namespace(s='xxxxxxxxxx') %}{% for i in range(60) %}"
        "{% set ns.s=[ns.s,ns.s]|join %}{% endfor %}{{ns.s}}"
    ),
    "doublejoin2": (
        "{% set ns=namespace(s='xxxxxxxxxx') %}{% for i in range(60) %}"
        "{% set ns.s=ns.s.join(['a','b','c']) %}{% endfor %}{{ns.s}}"
    ),
    "replace": (
        "{% set ns=namespace(s='xxxxxxxxxx') %}{% for i in range(60) %}"
        "{% set ns.s=ns.s.replace('x',ns.s) %}{% endfor %}{{ns.s}}"
    ),
    "replacef": (
        "{% set ns=namespace(s='xxxxxxxxxx') %}{% for i in range(60) %}"
        "{% set ns.s=ns.s|replace('x',ns.s) %}{% endfor %}{{ns.s}}"
    ),
    "setblock": (
        "{% set ns=namespace(s='xxxxxxxxxx') %}{% for i in range(60) %}{% set t %}"
        "{{ns.s}}{{ns.s}}{% endset %}{% set ns.s=t %}{% endfor %}{{ns.s}}"
    ),
    "macro": "{% macro f(n) %}{{ f(n) }}{% endmacro %}{{ f(1) }}",
    "macro2": (
        "{% macro f(n) %}{% if n %}{{ f(n-1) }}{{ f(n-1) }}{% endif %}{% endmacro %}{{ f(60) }}"
    ),
    "call": (
        "{% macro f() %}{{ caller() }}{% endmacro %}{% macro g() %}{% call f() %}"
        "{{ g() }}{% endcall %}{% endmacro %}{{ g() }}"
    ),
    "reclist": (
        "{% set ns=namespace(s=[1]) %}{% for i in range(60) %}"
        "{% set ns.s=[ns.s,ns.s] %}{% endfor %}{{ns.s}}"
    ),
    "reclistjson": (
        "{% set ns=namespace(s=[1]) %}{% for i in range(60) %}"
        "{% set ns.s=[ns.s,ns.s] %}{% endfor %}{{ns.s|tojson}}"
    ),
    "reclisteq": (
        "{% set ns=namespace(s=[1],t=[1]) %}{% for i in range(60) %}"
        "{% set ns.s=[ns.s,ns.s] %}{% set ns.t=[ns.t,ns.t] %}{% endfor %}{{ns.s==ns.t}}"
    ),
    "nsself": "{% set ns=namespace() %}{% set ns.x=ns %}{{ ns }}",
    "nsself2": "{% set ns=namespace() %}{% set ns.x=[ns] %}{{ [ns] | string }}{{ [ns]|tojson }}",
    "pow": "{{ 2**(2**30) }}",
    "bigmul": (
        "{% set ns=namespace(x=3) %}{% for i in range(60) %}{% set ns.x=ns.x*ns.x %}"
        "{% endfor %}{{ns.x}}"
    ),
    "recursive": "{% for a in [1,2] recursive %}{{ loop([1,2]) }}{% endfor %}",
    "center": "{{ 'x'|center(1000000000) }}",
    "ljust": "{{ 'x'.ljust(1000000000) }}",
    "fmtwidth": "{{ '%1000000000d'|format(3) }}",
    "fmtwidth2": "{{ '{:1000000000}'.format(3) }}",
    "fmtstar": "{{ '%*d'|format(1000000000,3) }}",
    "fmtnest": "{{ '{:{}}'.format(3,1000000000) }}",
    "mod": "{{ '%1000000000d' % 3 }}",
    "indent": "{{ ('x\n'*10000)|indent(10000) }}",
    "batch": "{{ [1]|batch(1000000000,'x')|list }}",
    "slice": "{{ [1]|slice(1000000000)|list }}",
    "jsonindent": "{{ [1]|tojson(indent=1000000000) }}",
    "jsonindent2": "{{ (range(9999)|list)|tojson(indent=10000) }}",
    "expandtabs": "{{ ('\t'*100000).expandtabs(9000) }}",
    "zfill": "{{ '1'.zfill(1000000000) }}",
    "encode": "{{ 'x'.encode() }}",
    "tobytes": "{{ (5).to_bytes(1000000000,'big') }}",
    "fromkeys": "{{ {}.fromkeys(range(99999)) }}",
    "attrmethods": "{{ 'x'|attr('ljust')(1000000000) }}",
    "mapattr": "{{ ([{'a':'x'*1000000}]*100000)|map(attribute='a')|join }}",
    "mapfmt": "{{ ['x']*1000|map('center',1000000000)|join }}",
    "maplist": "{{ (['x'*100000]*100000)|map('upper')|list|length }}",
    "inlist": (
        "{% set l=range(99999)|list %}{% for i in range(99999) %}{% if 'z' in l %}"
        "{% endif %}{% endfor %}"
    ),
    "instr": (
        "{% set l='x'*10000000 %}{% for i in range(99999) %}{% if 'z' in l %}"
        "{% endif %}{% endfor %}"
    ),
    "sort": "{% for i in range(99999) %}{% set x=range(99999)|sort %}{% endfor %}",
    "slicing": (
        "{% set l='x'*10000000 %}{% for i in range(99999) %}{% set x=l[::-1] %}{% endfor %}"
    ),
    "split": ("{% set l='x '*5000000 %}{% for i in range(999) %}{% set x=l.split() %}{% endfor %}"),
    "sumlist": "{{ ([range(99)|list]*100000)|sum(start=[])|length }}",
    "parens": "{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}",
    "plus": "{{ " + "+".join(["1"] * 20_000) + " }}",
    "lists": "{{ " + "[" * 3000 + "]" * 3000 + " }}",
    "nots": "{{ " + "not " * 20_000 + "1 }}",
    "dots": "{{ a" + ".b" * 20_000 + " }}",
    "opens": "{{" * 50_000,
    "opens2": "{%" * 50_000,
    "opens3": "{#" * 50_000,
    "ifs": "{% if 1 %}" * 2000 + "{% endif %}" * 2000,
    "strftime": "{{ strftime_now('%1000000000d') }}",
    "include": "{% include 'x' %}",
    "extends": "{% extends 'x' %}",
    "block": "{% block a %}{{ self.a() }}{% endblock %}",
    "static": "{% for i in range(99999) %}" + "x" * 100_000 + "{% endfor %}",
    "staticset": (
        "{% set ns = namespace(l=[]) %}{% for i in range(99999) %}{% set t %}"
        + "x" * 100_000
        + "{% endset %}{% set ns.l = ns.l + [t] %}{% endfor %}"
    ),
    "groupby": "{{ range(99999)|map('string')|groupby('x')|list }}",
    "deepnest3": (
        "{% set ns=namespace(s=[1],t=[1]) %}{% for i in range(90000) %}"
        "{% set ns.s=[ns.s] %}{% set ns.t=[ns.t] %}{% endfor %}{{ns.s==ns.t}}"
    ),
    "cycler": (
        "{% set c=cycler(*range(99999)) %}{% for i in range(99999) %}{{ c.next() }}"
        "{% endfor %}{% for i in range(9999999) %}{% endfor %}"
    ),
    "lipsum": "{{ lipsum(n=100000000) }}",
    "zero": "{{ 1/0 }}",
    "striptags": "{{ 'x'|striptags }}",
    "nsmod": "{% set ns.x = 1 %}",
    "append": "{{ messages.append(1) }}",
    "update": "{% for m in messages %}{{ m.update({'a':1}) }}{% endfor %}",
    "tojsonstr": (
        "{% set ns=namespace(s='\"') %}{% for i in range(60) %}"
        "{% set ns.s=ns.s|tojson %}{% endfor %}{{ns.s}}"
    ),
}
