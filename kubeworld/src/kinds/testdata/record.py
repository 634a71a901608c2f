"""Sends cases.yaml to a real API server and writes answers.json; see README.md."""
import yaml, json, ssl, urllib.request, sys
ctx=ssl._create_unverified_context()
D=sys.path[0]+'/'
PLURAL={'Endpoints':'endpoints','Ingress':'ingresses','NetworkPolicy':'networkpolicies','IngressClass':'ingressclasses','StorageClass':'storageclasses','PriorityClass':'priorityclasses','RuntimeClass':'runtimeclasses','ValidatingAdmissionPolicy':'validatingadmissionpolicies'}
CLUSTER={'Namespace','Node','PersistentVolume','ClusterRole','ClusterRoleBinding','StorageClass','CSIDriver','PriorityClass','IngressClass','RuntimeClass','ValidatingWebhookConfiguration','MutatingWebhookConfiguration','ValidatingAdmissionPolicy','CustomResourceDefinition','APIService','FlowSchema'}
def call(method,path,body=None):
    r=urllib.request.Request(sys.argv[1]+path,method=method,data=json.dumps(body).encode() if body is not None else None,headers={'Authorization':'Bearer '+sys.argv[2],'Content-Type':'application/json'})
    try:
        with urllib.request.urlopen(r,context=ctx) as x: return x.status,json.load(x)
    except urllib.error.HTTPError as e:
        return e.code,json.load(e)
def path(o):
    av=o['apiVersion']; k=o['kind']
    base='/api/v1' if av=='v1' else '/apis/'+av
    if k not in CLUSTER: base+='/namespaces/kinds'
    return base+'/'+PLURAL.get(k,k.lower()+'s')
def merge(a,b):
    if not isinstance(b,dict): return b
    a=dict(a) if isinstance(a,dict) else {}
    for k,v in b.items():
        if v is None: a.pop(k,None)
        else: a[k]=merge(a.get(k),v)
    return a
def strip(code,o):
    if isinstance(o,dict) and o.get('kind')!='Status' and 'metadata' in o:
        o=json.loads(json.dumps(o)); o['metadata'].pop('managedFields',None)
    return {'code':code,'body':o}
call('POST','/api/v1/namespaces',{'metadata':{'name':'kinds'}})
cases=yaml.safe_load(open(D+'cases.yaml'))
out={}
for c in cases:
    o=json.loads(json.dumps(c['create'],default=str))
    p=path(o); res=[]
    code,body=call('POST',p,o); res.append(strip(code,body))
    cur=body if code<300 else None
    for s in c.get('then',[]):
        sub='' if 'update' in s else '/status'
        ch=json.loads(json.dumps(s.get('update') or s.get('status'),default=str))
        if cur is None: print('no object for',c['case']); break
        new=merge(cur,ch)
        code,body=call('PUT',p+'/'+o['metadata']['name']+sub,new)
        res.append(strip(code,body))
        if code<300: cur=body
    assert c['case'] not in out, c['case']
    out[c['case']]=res
with open(D+'answers.json','w') as f:
    f.write('{\n'+',\n'.join(json.dumps(k)+': [\n  '+',\n  '.join(json.dumps(s,sort_keys=True) for s in v)+'\n]' for k,v in out.items())+'\n}\n')
from collections import Counter
print(Counter(s['code'] for v in out.values() for s in v))
for k,v in out.items():
    for s in v:
        if s['code'] not in (200,201,422): print(k,s['code'],s['body'].get('message'))
